# SPDX-License-Identifier: Apache-2.0
"""What devices exchange in a compiled program."""

import math
import re
from dataclasses import dataclass

import numpy as np

from lumiere_jax.profiling import hlo

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "all-to-all",
  "ragged-all-to-all",
  "collective-permute",
  "collective-broadcast",
)


@dataclass(frozen=True)
class Collective:
  """All collectives of a kind among the same devices.

  Attributes:
    kind: one of COLLECTIVES.
    members: the first group of devices that take part, by their places in the
      mesh; a pair that is farthest apart of a permutation.
    count: how often a device takes part, loops counted as often as they run.
    bytes: of one device's data over all of them: what goes in, and for
      gathering what comes out.
  """

  kind: str
  members: tuple[int, ...]
  count: int
  bytes: int

  @property
  def sent(self) -> float:
    """Bytes that a device sends at least: by a ring, the shortest way."""
    share = (len(self.members) - 1) / len(self.members)
    if self.kind == "all-reduce":
      return 2 * share * self.bytes
    if self.kind in ("collective-permute", "collective-broadcast"):
      return float(self.bytes)
    return share * self.bytes

  def leaves(self, island: int) -> bool:
    """Whether members are of several islands of so many devices each."""
    return len({member // island for member in self.members}) > 1


def members(line: hlo.Instruction, everyone: int) -> tuple[int, ...]:
  """The first group of devices of a collective, or its farthest pair.

  Groups are written out, {{0,1},{2,3}}, or as numbers from 0 on that are
  reshaped, transposed and reshaped again: [2,2]<=[2,2]T(1,0).
  """
  pairs = re.search(r"source_target_pairs=\{(\{.*?\})\}", line.attributes)
  if pairs:
    found = [tuple(map(int, p)) for p in re.findall(r"(\d+),(\d+)", pairs[1])]
    return max(found, key=lambda pair: abs(pair[0] - pair[1]))
  listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line.attributes)
  if listed:
    return tuple(map(int, listed[1].split(",")))
  shaped = re.search(
    r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?",
    line.attributes,
  )
  if not shaped:
    return tuple(range(everyone))
  groups, dims, order = (
    [int(i) for i in part.split(",")] if part else None
    for part in shaped.groups()
  )
  ids = np.arange(math.prod(dims)).reshape(dims).transpose(order)
  return tuple(ids.reshape(groups)[0].tolist())
