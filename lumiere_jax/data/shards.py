# SPDX-License-Identifier: Apache-2.0
"""Shards of encoded clips and captions, as data.write makes them.

clips-00000-of-00004.array_record  records, each a tf.train.Example
clips-00000-of-00004.json          their names and captions, and what was left
                                   out of the shard
description.json                   format, counts, text encoder, fingerprint
report.json                        what became of the source, for people
ATTRIBUTION.md                     licence of what the clips show
text/                              a text store of the empty caption and of
                                   prompts, where captions are encoded

A record has "media", the bytes of a video or image file, "still" (0 or 1),
"name", "caption", and where captions are encoded "text" (float16) and "mask".
"""

import bisect
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax.data import record
from lumiere_jax.data.source import (
  AnySource,
  Item,
  Text,
  check_folder,
  read_attribution,
)
from lumiere_jax.errors import UserError

FORMAT = 1
DESCRIPTION = "description.json"
REPORT = "report.json"
TEXT = "text"


class ShardSource:
  """The records of all shards of a folder.

  Attributes:
    text: what encoded the captions, or None.
  """

  def __init__(self, cfg: AnySource):
    """Reads the description.

    Raises:
      UserError: no such folder, no description, one of a later version, or
        shards that are not as it says.
    """
    self._folder = check_folder(cfg.data_dir, "shards of data.write")
    path = self._folder / DESCRIPTION
    try:
      self._about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
      raise UserError(
        f"cannot read {path}: {error}; data.write makes it last"
      ) from error
    if not isinstance(self._about, dict):
      raise UserError(f"{path} is damaged: it holds no object")
    if self._about.get("format") != FORMAT:
      raise UserError(
        f"{path} has format {self._about.get('format')!r}, this version reads "
        f"{FORMAT}"
      )
    if lacking := {"counts", "fingerprint", "text"} - set(self._about):
      raise UserError(f"{path} is damaged: it lacks {sorted(lacking)[0]!r}")
    self.text: Mapping[str, Any] | None = self._about["text"]
    self._counts = self._about["counts"]
    self._ends = list(itertools.accumulate(self._counts))
    total = len(self._counts)
    self._stems = [shard_stem(n, total) for n in range(total)]
    files = [
      self._folder / f"{stem}.array_record"
      for stem, count in zip(self._stems, self._counts, strict=True)
      if count
    ]
    if missing := [file.name for file in files if not file.is_file()]:
      raise UserError(f"{self._folder} lacks {', '.join(missing[:3])}")
    if not files:
      raise UserError(f"{self._folder} has no clips: all were left out")
    self._records = record.open_records(files)
    self._kept: tuple[str, list[list[str]]] = "", []
    if len(self._records) != sum(self._counts):
      raise UserError(
        f"{self._folder} has {len(self._records)} records, {path} says "
        f"{sum(self._counts)}"
      )

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> Item:
    values = record.parse(self._records[index])
    text = None
    if self.text is not None:
      mask = np.frombuffer(values["mask"], np.bool_)
      features = np.frombuffer(values["text"], np.float16)
      text = Text(features.reshape(len(mask), -1), mask)
    caption = values["caption"].decode("utf-8")
    return Item(
      values["media"], caption, still=bool(values["still"]), text=text
    )

  def name(self, index: int) -> str:
    shard = bisect.bisect_right(self._ends, index)
    first = self._ends[shard - 1] if shard else 0
    return self._clips(self._stems[shard])[index - first][0]

  def stamp(self, index: int) -> str:
    return self.fingerprint()

  def captions(self) -> list[str]:
    return sorted(
      {caption for stem in self._stems for _, caption in self._clips(stem)}
    )

  def fingerprint(self) -> str:
    return self._about["fingerprint"]

  def attribution(self) -> str:
    return read_attribution(self._folder)

  def _clips(self, stem: str) -> list[list[str]]:
    """Name and caption of each record of a shard; the last one's are kept."""
    kept, clips = self._kept
    if kept != stem:
      clips = read_json(self._folder / f"{stem}.json")["clips"]
      self._kept = stem, clips
    return clips


def shard_stem(number: int, total: int) -> str:
  """What the names of a shard's files begin with."""
  return f"clips-{number:05}-of-{total:05}"


def read_json(path: Path) -> Any:
  """What is in a JSON file.

  Raises:
    UserError: it cannot be read.
  """
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise UserError(f"cannot read {path}: {error}") from error


def as_record(
  name: str, item: Item, media: bytes, text: Text | None = None
) -> bytes:
  """The record of an item whose media these bytes are."""
  values: dict[str, bytes | int] = {
    "name": name.encode("utf-8", "surrogatepass"),
    "caption": item.caption.encode("utf-8"),
    "media": media,
    "still": int(item.still),
  }
  if text is not None:
    values["text"] = text.features.astype(np.float16).tobytes()
    values["mask"] = text.mask.astype(np.bool_).tobytes()
  return record.serialize(values)
