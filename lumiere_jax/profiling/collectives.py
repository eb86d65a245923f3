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


_Key = tuple[str, tuple[int, ...]]


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


def between_slices(line: hlo.Instruction, partitions: int) -> _Key | None:
  """Kind and members of what TPUs send to other slices, or None.

  There the program is that of one slice, and a `send` to the host stands for
  the part of a collective that leaves it; its attributes tell which.

  Args:
    line: of any kind.
    partitions: devices of a slice.
  """
  if line.opcode != "send":
    return None
  kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', line.attributes)
  slices = re.search(r'_xla_megascale_target="\{([^}]*)\}', line.attributes)
  if not kind or not slices:
    return None
  count = 0
  for part in slices[1].split(","):
    first, _, last = part.partition(":")
    count += int(last or first) - int(first) + 1
  members = tuple(i * partitions for i in range(count))
  return kind[1].lower().replace("_", "-"), members


def members(line: hlo.Instruction, everyone: int) -> tuple[int, ...]:
  """The first group of devices of a collective, or its farthest pair.

  Groups are written out, {{0,1},{2,3}}, or as numbers from 0 on that are
  reshaped, transposed and reshaped again, [2,2]<=[2,2]T(1,0), or as axes of a
  mesh, mesh['a'=2,'b'=2] {'b'}.
  """
  text = line.attributes
  if pairs := re.search(r"source_target_pairs=\{(\{.*?\})\}", text):
    found = re.findall(r"(\d+),(\d+)", pairs[1])
    ordered = [tuple(sorted((int(a), int(b)))) for a, b in found]
    return max(ordered, key=lambda pair: pair[1] - pair[0])
  if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
    return tuple(map(int, listed[1].split(",")))
  shaped = re.search(
    r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text
  )
  if shaped:
    groups, dims, order = (
      [int(i) for i in part.split(",")] if part else None
      for part in shaped.groups()
    )
    ids = np.arange(math.prod(dims)).reshape(dims).transpose(order)
    return tuple(ids.reshape(groups)[0].tolist())
  if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text):
    return _along(*mesh.groups())
  return tuple(range(everyone))


def _along(mesh: str, axes: str) -> tuple[int, ...]:
  """Devices along axes of a mesh: "'a'=2,'b'=4" and "'a','b':(2)2".

  The second form is a part of an axis: 2 of it, in the middle of b = 2 x 2 x 1.
  """
  sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", mesh)}
  ids = np.arange(math.prod(sizes.values())).reshape(list(sizes.values()))
  places = list(sizes)
  index: list[slice | int] = [0] * len(places)
  for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes):
    if size:
      step = sizes[name] // (int(before) * int(size))
      part = slice(0, int(size) * step, step)
    else:
      part = slice(None)
    index[places.index(name)] = part
  return tuple(ids[tuple(index)].ravel().tolist())
