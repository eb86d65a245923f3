# SPDX-License-Identifier: Apache-2.0
"""Which files are clips, and what lies beside one and tells of it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError

# By the ends of their names.
VIDEOS = (
  *(".gif", ".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg"),
  *(".3gp", ".flv", ".m2ts", ".mts", ".ogv", ".ts", ".wmv"),
)
# Of files of one name, as `sample` writes them, the first kind is read: what
# has every pixel as it was made before what does not.
CLIPS = (".npy", ".webp", *VIDEOS)


def clips_among(files: Iterable[Path]) -> list[Path]:
  """The clips among files, one of each name, in the order of their names.

  None is hidden, nor one of the small ones (`.low`) beside clips that were
  enlarged.
  """
  found: dict[Path, Path] = {}
  ranks = {suffix: rank for rank, suffix in enumerate(CLIPS)}
  clips = [f for f in files if f.suffix.lower() in ranks and f.name[0] != "."]
  for file in sorted(clips, key=lambda file: ranks[file.suffix.lower()]):
    found.setdefault(file.with_suffix(""), file)
  small = {stem for stem in found if stem.suffix == ".low"}
  kept = {
    stem: file
    for stem, file in found.items()
    if stem not in small or stem.with_suffix("") not in found
  }
  return [kept[stem] for stem in sorted(kept)]


def read_caption(file: Path) -> str:
  """What a clip is to show: its sidecar's prompt, or the text file beside it.

  Returns:
    "" if there is neither.

  Raises:
    UserError: the sidecar or the text file cannot be read.
  """
  if isinstance(prompt := read_sidecar(file).get("prompt"), str):
    return prompt.strip()
  text = file.with_suffix(".txt")
  try:
    return " ".join(text.read_text(encoding="utf-8").split())
  except FileNotFoundError:
    return ""
  except (OSError, ValueError) as error:
    raise UserError(f"the caption of {file} cannot be read: {error}") from None


def read_sidecar(file: Path) -> dict[str, Any]:
  """What the JSON file beside a clip says; nothing if there is none.

  Raises:
    UserError: it cannot be read.
  """
  path = file.with_suffix(".json")
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    raise UserError(f"{path} beside a clip cannot be read: {error}") from None
  return found if isinstance(found, dict) else {}
