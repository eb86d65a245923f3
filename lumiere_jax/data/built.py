# SPDX-License-Identifier: Apache-2.0
"""Data sets that data.write has built as those of TensorFlow Datasets.

Needs neither TensorFlow nor tensorflow_datasets: the ArrayRecord files are
read by random access through grain.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from lumiere_jax.data import record
from lumiere_jax.data.source import (
  ATTRIBUTION,
  AnySource,
  Frames,
  Item,
)
from lumiere_jax.errors import UserError, nearest

# How the data sets are built, as their messages say it.
_COMMANDS = {
  "emoji_motion": "--dataset=emoji_motion --config={config} --sprites=PACK",
  "ucf101": "--dataset=ucf101 --config={config} --videos=UCF-101",
}


class BuiltSource:
  """A split of a built data set.

  Attributes:
    shape: (t, h, w, c) of its clips if they are stored as frames, None if as
      encoded video.
  """

  text = None

  def __init__(self, cfg: AnySource, split: str | None = None):
    """Finds the data set; its files are opened when they are first needed.

    Args:
      cfg: names the data set.
      split: other than the config's.

    Raises:
      UserError: no such data set.
    """
    self._folder = dataset_folder(cfg)
    self._split = cfg.split if split is None else split
    self._name = cfg.name

  @functools.cached_property
  def shape(self) -> tuple[int, int, int, int] | None:
    text = (self._folder / "features.json").read_text(encoding="utf-8")
    video = json.loads(text)["featuresDict"]["features"]["video"]["tensor"]
    dimensions = video["shape"].get("dimensions")
    return dimensions and tuple(int(n) for n in dimensions)

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Item:
    values = record.parse(self.records[index])
    caption = values["caption"].decode("utf-8")
    if self.shape is None:
      return Item(values["video"], caption)
    image_caption = values["image_caption"].decode("utf-8")
    return Item(Frames(values["video"], self.shape), caption, image_caption)

  def name(self, index: int) -> str:
    return f"{self._name}-{self._split}[{index}]"

  def stamp(self, index: int) -> str:
    return self.fingerprint()

  def captions(self) -> list[str]:
    text = (self._folder / "metadata.json").read_text(encoding="utf-8")
    by_split = json.loads(text)["captions"]
    if self._split not in by_split:
      raise _no_split(self._split, by_split)
    return by_split[self._split]

  def labels(self, field: str) -> list[str]:
    """A field of every item."""
    return [record.parse(r)[field].decode("utf-8") for r in self.records]

  def fingerprint(self) -> str:
    """It counts examples and bytes, and names the version and its source."""
    return self._fingerprint

  @functools.cached_property
  def _fingerprint(self) -> str:
    whole = hashlib.sha256()
    for name in ("dataset_info.json", "features.json", "metadata.json"):
      whole.update((self._folder / name).read_bytes())
    return whole.hexdigest()[:16]

  def attribution(self) -> str:
    path = self._folder / ATTRIBUTION
    try:
      return path.read_text(encoding="utf-8")
    except OSError as error:
      raise UserError(f"cannot read {path}: {error.strerror}") from error

  @functools.cached_property
  def records(self) -> Any:
    """Bytes of each example.

    Raises:
      UserError: no such split, or a damaged file.
    """
    name = self._name
    files = sorted(self._folder.glob(f"{name}-{self._split}.array_record-*"))
    if not files:
      found = self._folder.glob(f"{name}-*.array_record-*")
      splits = {path.name.split("-")[1].split(".")[0] for path in found}
      raise _no_split(self._split, splits)
    return record.open_records(files)


def dataset_folder(cfg: AnySource) -> Path:
  """The newest version's folder of a built dataset.

  Raises:
    UserError: it has not been built; the message says how.
  """
  parent = Path(cfg.data_dir) / cfg.name / cfg.config
  versions = sorted(
    (path.parent for path in parent.glob("[0-9]*/dataset_info.json")),
    key=lambda path: [int(part) for part in path.name.split(".")],
  )
  if not versions:
    if cfg.name not in _COMMANDS:
      raise UserError(
        f"unknown data.name={cfg.name!r}{nearest(cfg.name, _COMMANDS)}"
      )
    how = _COMMANDS[cfg.name].format(config=cfg.config)
    raise UserError(
      f"no dataset {cfg.name}/{cfg.config} in {cfg.data_dir!r}; build it with "
      f"python -m lumiere_jax.data.write {how} --data_dir={cfg.data_dir}"
    )
  return versions[-1]


def _no_split(split: str, choices: Any) -> UserError:
  return UserError(f"unknown data split {split!r}{nearest(split, choices)}")
