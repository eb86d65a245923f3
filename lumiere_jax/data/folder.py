# SPDX-License-Identifier: Apache-2.0
"""Videos and images as they lie in a folder, with their captions.

The captions are in a CSV or JSONL file, or in a .txt beside each video.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax.data.source import (
  AnySource,
  Item,
  check_folder,
  digest,
  read_attribution,
)
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.media import VIDEOS, Unusable

# By the ends of their names, as videos; a list of captions may name others.
IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Columns, or keys, that captions lists use for the two things; the first that
# is there counts.
FILE_KEYS = ("file", "path", "file_name", "filename", "video", "image")
CAPTION_KEYS = ("caption", "text")


class FileSource:
  """Files below a folder, each with a caption."""

  text = None

  def __init__(
    self,
    folder: Path,
    files: Sequence[str],
    captions: Sequence[str] | None = None,
  ):
    """Opens nothing.

    Args:
      folder: where the files lie.
      files: their names from the folder on, one for each item.
      captions: as many; None reads a .txt beside each.
    """
    self._folder, self._files, self._captions = folder, files, captions
    # A file may have several captions.
    self._names = list(files)
    seen: dict[str, int] = {}
    for index, file in enumerate(files):
      seen[file] = count = seen.get(file, 0) + 1
      if count > 1:
        self._names[index] = f"{file}#{count}"

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> Item:
    path = self._folder / self._files[index]
    caption = self._caption(index)
    if not caption:
      beside = self._captions is None and _text_file(path).is_file()
      why = "its .txt is empty or not UTF-8" if beside else "it has no caption"
      raise Unusable("no caption", why)
    return Item(str(path), caption, still=is_image(path.name))

  def name(self, index: int) -> str:
    return self._names[index]

  def stamp(self, index: int) -> str:
    path = self._folder / self._files[index]
    return f"{_size(path)} {self._caption(index)}"

  def captions(self) -> list[str]:
    return sorted({self._caption(i) for i in range(len(self))} - {""})

  def fingerprint(self) -> str:
    return digest(
      f"{self._names[i]}\0{self.stamp(i)}" for i in range(len(self))
    )

  def attribution(self) -> str:
    return read_attribution(self._folder)

  def _caption(self, index: int) -> str:
    if self._captions is not None:
      return self._captions[index]
    try:
      text = _text_file(self._folder / self._files[index]).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
      return ""
    return " ".join(text.split())


def open_folder(cfg: AnySource) -> FileSource:
  """The videos, images or both of a folder.

  Raises:
    UserError: no such folder, none of them in it, or no captions.
  """
  folder = check_folder(cfg.data_dir, "videos and captions")
  file = _captions_file(folder, cfg.captions)
  if file is not None:
    rows = list(_read_rows(file, cfg.split))
    rows = [row for row in rows if _taken(row[0], cfg.media)]
    if not rows:
      raise UserError(f"{file} names no {_what(cfg.media)}")
    rows.sort()
    return FileSource(folder, [r[0] for r in rows], [r[1] for r in rows])
  names = list_files(folder)
  media = [name for name in names if is_image(name) or is_video(name)]
  files = [name for name in media if _taken(name, cfg.media)]
  if not files:
    other = len(media)
    hint = f", but {other} files that another data.media takes" * bool(other)
    raise UserError(f"{folder} holds no {_what(cfg.media)}{hint}")
  if not any(_text_file(folder / name).is_file() for name in files):
    raise UserError(
      f"{folder} holds {len(files)} {_what(cfg.media)} and no captions: a CSV "
      "or JSONL file (data.captions), or a .txt beside each"
    )
  return FileSource(folder, files)


def list_files(folder: Path) -> list[str]:
  """Names, from the folder on, of all files below it, sorted.

  Hidden ones are left out.
  """
  names = []
  for place, folders, files in os.walk(folder):
    folders[:] = [name for name in folders if not name.startswith(".")]
    below = Path(place).relative_to(folder)
    names += [(below / f).as_posix() for f in files if not f.startswith(".")]
  return sorted(names)


def is_image(name: str) -> bool:
  """Whether a file of this name is taken for an image."""
  return Path(name).suffix.lower() in IMAGES


def is_video(name: str) -> bool:
  """Whether a file of this name is taken for a video."""
  return Path(name).suffix.lower() in VIDEOS


def _taken(name: str, media: str) -> bool:
  """Whether a file that a list names is what data.media says."""
  return media == "both" or is_image(name) == (media == "image")


def _what(media: str) -> str:
  return {"video": "videos", "image": "images"}.get(media, "videos or images")


def _text_file(path: Path) -> Path:
  return path.with_suffix(".txt")


def _size(path: Path) -> int:
  try:
    return path.stat().st_size
  except (OSError, ValueError):  # Of a name that no file can have.
    return -1


def _captions_file(folder: Path, name: str) -> Path | None:
  """The list of captions that is named, or the only one there is."""
  if name:
    if not (folder / name).is_file():
      found = [p.name for p in folder.iterdir() if p.suffix.lower() in _READERS]
      raise UserError(
        f"data.captions={name!r}: no such file in {folder}"
        f"{nearest(name, found)}"
      )
    return folder / name
  found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _READERS)
  if len(found) > 1:
    raise UserError(
      f"{folder} holds several lists; data.captions must name one of "
      f"{', '.join(path.name for path in found)}"
    )
  return found[0] if found else None


def _read_rows(file: Path, split: str) -> Iterator[tuple[str, str]]:
  """Yields (file, caption) of a list; of one with splits, the split's."""
  if file.suffix.lower() not in _READERS:
    raise UserError(f"{file} must be one of {', '.join(_READERS)}")
  splits = set()
  count = 0
  try:
    with file.open(encoding="utf-8-sig", newline="") as lines:
      rows = _READERS[file.suffix.lower()](lines)
      for number, row in enumerate(rows, 1):
        name = _value(row, FILE_KEYS, f"{file}, entry {number}")
        caption = _value(row, CAPTION_KEYS, f"{file}, entry {number}")
        if not name:
          raise UserError(f"{file}, entry {number} names no file")
        splits.add(part := str(row.get("split", split) or ""))
        if part == split:
          count += 1
          # JSON can hold halves of characters, which no encoder takes.
          caption = caption.encode("utf-8", "replace").decode("utf-8")
          yield name, " ".join(caption.split())
  except UserError:  # It is a ValueError too.
    raise
  except (OSError, ValueError) as e:
    raise UserError(f"cannot read {file}: {e}") from e
  if not count:
    hint = nearest(split, splits - {""}) if splits else ": it is empty"
    raise UserError(f"{file} has nothing of data split {split!r}{hint}")


def _value(row: Any, keys: Sequence[str], where: str) -> str:
  """The text of the first key that is there; "" where it has no value."""
  if not isinstance(row, Mapping):
    raise UserError(f"{where} is no object of keys and values")
  for key in keys:
    if key in row:
      value = "" if row[key] is None else row[key]
      if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UserError(
          f"{where} has {key}={value!r}, which is no text; several captions "
          "are as many entries"
        )
      return str(value).strip()
  found = ", ".join(repr(key) for key in row)
  raise UserError(f"{where} has none of {', '.join(keys)}; it has {found}")


def _csv_rows(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
  """Raises ValueError for what would be read as something else."""
  # What follows a quote that is not closed would be the rest of a caption.
  rows = csv.DictReader(lines, strict=True)
  line = 1
  while True:
    try:
      line = rows.line_num + 1 if rows.fieldnames else 1
      row = next(rows, None)
    except csv.Error as error:
      raise ValueError(f"the entry of line {line}: {error}") from error
    if row is None:
      return
    if None in row:
      raise ValueError(
        f"the entry of line {line} has more values than there are columns; "
        "one with a comma needs quotes"
      )
    yield row


def _json_lines(lines: Iterable[str]) -> Iterator[Any]:
  for number, line in enumerate(lines, 1):
    if line.strip():
      try:
        yield json.loads(line)
      except json.JSONDecodeError as error:
        raise ValueError(
          f"line {number}, character {error.pos + 1}: {error.msg}"
        ) from error


_READERS = {".csv": _csv_rows, ".jsonl": _json_lines}
