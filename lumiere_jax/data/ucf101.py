# SPDX-License-Identifier: Apache-2.0
"""UCF-101 as it is distributed: a folder of videos for each class.

The lists of training and testing videos (ucfTrainTestlist) are found in the
folder or beside it. Captions are the classes' names in words.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from lumiere_jax.data.folder import FileSource, is_video, list_files
from lumiere_jax.data.source import AnySource, check_folder
from lumiere_jax.errors import UserError, nearest

_LISTS = "ucfTrainTestlist"
# The first of the three ways to split is what "train" and "test" mean.
_SPLITS = {
  "train": "trainlist01.txt",
  "test": "testlist01.txt",
  **{f"train{n}": f"trainlist0{n}.txt" for n in (1, 2, 3)},
  **{f"test{n}": f"testlist0{n}.txt" for n in (1, 2, 3)},
}
ALL = "all"


def open_ucf101(cfg: AnySource) -> FileSource:
  """The videos of a split, which is "all" where there are no lists.

  Raises:
    UserError: no such folder or split, or no videos in it.
  """
  folder = check_folder(cfg.data_dir, "UCF-101's folders of classes")
  files = split_files(folder, cfg.split)
  return FileSource(folder, files, [class_words(name) for name in files])


def split_files(folder: Path, split: str) -> list[str]:
  """Names, CLASS/VIDEO, of the videos of a split that are there or listed.

  Raises:
    UserError: no such split, no lists for it, or no videos.
  """
  if split not in (*_SPLITS, ALL):
    raise UserError(
      f"unknown data split {split!r}{nearest(split, (*_SPLITS, ALL))}"
    )
  if split == ALL:
    found = [name for name in list_files(folder) if is_video(name)]
    files = [name for name in found if name.count("/") == 1]
    if not files:
      raise UserError(f"{folder} holds no CLASS/VIDEO as UCF-101 does")
    return files
  name = _SPLITS[split]
  for place in (folder / _LISTS, folder, folder.parent / _LISTS):
    if (place / name).is_file():
      lines = (place / name).read_text(encoding="utf-8").splitlines()
      # Training lists have the number of the class behind the name.
      return sorted(line.split()[0] for line in lines if line.strip())
  raise UserError(
    f"data split {split!r} needs {_LISTS}/{name} in {folder} or beside it; "
    "without lists there is --config.data.split=all"
  )


def class_names(files: Sequence[str]) -> list[str]:
  """The classes of videos, sorted."""
  return sorted({name.partition("/")[0] for name in files})


def class_words(name: str) -> str:
  """The class of CLASS/VIDEO in words: "PlayingGuitar" is "playing guitar"."""
  name = name.partition("/")[0]
  words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower().split()
  return " ".join(words)
