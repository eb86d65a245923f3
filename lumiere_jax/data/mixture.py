# SPDX-License-Identifier: Apache-2.0
"""One source or several, as one."""

import bisect
import functools
import itertools
from collections.abc import Callable, Sequence

from lumiere_jax.config import DataConfig, SourceConfig
from lumiere_jax.data.built import BuiltSource
from lumiere_jax.data.folder import open_folder
from lumiere_jax.data.shards import ShardSource
from lumiere_jax.data.source import Item, Source, digest
from lumiere_jax.data.sprite_source import SpriteSource
from lumiere_jax.data.ucf101 import open_ucf101

OPENERS: dict[str, Callable[[SourceConfig], Source]] = {
  "built": BuiltSource,
  "shards": ShardSource,
  "folder": open_folder,
  "ucf101": open_ucf101,
  "sprites": SpriteSource,
}


class Mixture:
  """Sources one behind the other; numbers count through.

  Attributes:
    parts: the sources.
    weights: how often each is drawn from.
    text: what encoded the captions, if that is the same for all.
  """

  def __init__(self, parts: Sequence[Source], weights: Sequence[float]):
    self.parts, self.weights = tuple(parts), tuple(weights)
    texts = [part.text for part in parts]
    self.text = texts[0] if all(t == texts[0] for t in texts) else None

  @functools.cached_property
  def _ends(self) -> list[int]:
    return list(itertools.accumulate(len(part) for part in self.parts))

  def __len__(self) -> int:
    return self._ends[-1]

  def range_of(self, index: int) -> range:
    """The numbers of the part that an item belongs to."""
    part = bisect.bisect_right(self._ends, index)
    return self.ranges[part]

  @property
  def ranges(self) -> list[range]:
    """The numbers of each part."""
    return [
      range(start, end) for start, end in itertools.pairwise([0, *self._ends])
    ]

  def __getitem__(self, index: int) -> Item:
    part, inside = self._locate(index)
    return part[inside]

  def name(self, index: int) -> str:
    part, inside = self._locate(index)
    return part.name(inside)

  def stamp(self, index: int) -> str:
    part, inside = self._locate(index)
    return part.stamp(inside)

  def captions(self) -> list[str]:
    return sorted({c for part in self.parts for c in part.captions()})

  def fingerprint(self) -> str:
    if len(self.parts) == 1:
      return self.parts[0].fingerprint()
    prints = [part.fingerprint() for part in self.parts]
    return digest([*prints, *self.weights])

  def attribution(self) -> str:
    texts = dict.fromkeys(part.attribution().strip() for part in self.parts)
    return "\n\n".join(texts) + "\n"

  def _locate(self, index: int) -> tuple[Source, int]:
    number = bisect.bisect_right(self._ends, index)
    return self.parts[number], index - self.ranges[number].start


def open_sources(cfg: DataConfig) -> Mixture:
  """The sources that a config names.

  Raises:
    UserError: one of them is not there, or is not as it must be.
  """
  parts = [OPENERS[part.kind](part) for part in cfg.parts]
  return Mixture(parts, [part.weight for part in cfg.parts])
