# SPDX-License-Identifier: Apache-2.0
"""What a compiled program does: operations, bytes moved and collectives.

Read from the optimised text (`Compiled.as_text()`), for it alone has the
collectives that partitioning has put in, on all backends. XLA's own figure,
`cost_analysis()["flops"]`, counts a loop's body once and does not exist on
GPUs; the text tells how often each loop runs. Products that a backend hands to
a library (cuBLAS, cuDNN, oneDNN) are calls whose attributes tell their sizes.
All figures are of one device.
"""

import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lumiere_jax.profiling import hlo
from lumiere_jax.profiling.collectives import (
  COLLECTIVES,
  Collective,
  between_slices,
  members,
)
from lumiere_jax.profiling.convolution import multiplied
from lumiere_jax.profiling.loops import trip_count

# One operation for each element of the result, as XLA counts.
_ELEMENTWISE = (
  "abs",
  "add",
  "and",
  "ceil",
  "clamp",
  "compare",
  "convert",
  "divide",
  "floor",
  "maximum",
  "minimum",
  "multiply",
  "negate",
  "not",
  "or",
  "remainder",
  "round-nearest-afz",
  "round-nearest-even",
  "select",
  "shift-left",
  "shift-right-arithmetic",
  "shift-right-logical",
  "sign",
  "subtract",
  "xor",
)
# They move nothing by themselves.
_FREE = (
  "add-dependency",
  "after-all",
  "async-start",
  "bitcast",
  "call",
  "call-start",
  "conditional",
  "constant",
  "get-tuple-element",
  "opt-barrier",
  "parameter",
  "partition-id",
  "recv",
  "replica-id",
  "tuple",
  "while",
)
_CALLS = ("fusion", "call", "call-start", "async-start")
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclass(frozen=True)
class Program:
  """Figures of one run on one device.

  Attributes:
    multiplied: operations of dots and convolutions, padded taps left out.
    elementwise: those of everything else, without exponentials and the like.
    bytes: read and written in main memory.
    collectives: sorted by kind and members.
    unknown_loops: loops whose number of turns the text does not tell; their
      bodies are counted once.
  """

  multiplied: int
  elementwise: int
  bytes: int
  collectives: tuple[Collective, ...]
  unknown_loops: int

  @property
  def flops(self) -> int:
    return self.multiplied + self.elementwise

  @property
  def intensity(self) -> float:
    """Operations for each byte; 0 without any."""
    return self.flops / self.bytes if self.bytes else 0.0


def read_program(compiled: Any) -> Program:
  """Reads a `jax.stages.Compiled`.

  Raises:
    ValueError: its text is no HLO.
  """
  return read_text(compiled.as_text())


def read_lowered(lowered: Any) -> Program:
  """Reads a `jax.stages.Lowered`: the program as it was written.

  That needs no compilation, but is before XLA shares it out over devices and
  simplifies it: it has the work of all devices and none of their collectives,
  and its bytes are without any fusion.
  """
  return read_text(lowered.as_text(dialect="hlo"))


def read_text(text: str) -> Program:
  """Reads the text of a program.

  Raises:
    ValueError: it is no HLO.
  """
  module = hlo.parse(text)
  total = _Reader(module).cost(module.entry, False)
  return Program(
    multiplied=total.multiplied,
    elementwise=total.elementwise,
    bytes=total.bytes,
    collectives=tuple(
      Collective(kind, devices, count, moved)
      for (kind, devices), (count, moved) in sorted(total.collectives.items())
    ),
    unknown_loops=total.unknown_loops,
  )


def compiler_flops(compiled: Any) -> float | None:
  """What XLA itself counts, loops' bodies once; None where it does not."""
  costs = compiled.cost_analysis()
  if isinstance(costs, list):
    costs = costs[0] if costs else None
  flops = (costs or {}).get("flops")
  return None if flops is None or flops < 0 else float(flops)


_Key = tuple[str, tuple[int, ...]]


class _Cost:
  """A sum of figures."""

  def __init__(self):
    self.multiplied = self.elementwise = self.bytes = self.unknown_loops = 0
    self.collectives: dict[_Key, tuple[int, int]] = {}

  def add(self, other: "_Cost", times: int = 1) -> None:
    self.multiplied += other.multiplied * times
    self.elementwise += other.elementwise * times
    self.bytes += other.bytes * times
    self.unknown_loops += other.unknown_loops
    for key, (count, moved) in other.collectives.items():
      self.collect(key, count * times, moved * times)

  def collect(self, key: _Key, count: int, moved: int) -> None:
    before = self.collectives.get(key, (0, 0))
    self.collectives[key] = before[0] + count, before[1] + moved


class _Reader:
  """Adds up a program's computations, each of them once."""

  def __init__(self, module: hlo.Module):
    self._module = module
    self.cost = functools.cache(self._cost)

  def _cost(self, name: str, fused: bool) -> _Cost:
    """Of a computation; `fused`: it moves nothing through main memory."""
    total = _Cost()
    lines = self._module.computations[name]
    for line in lines.values():
      operands = [
        s for o in line.operands if o in lines for s in lines[o].shapes
      ]
      total.multiplied += multiplied(line, operands)
      total.elementwise += _elementwise(line, operands)
      if not fused:
        total.bytes += self._bytes(line, lines)
      self._collect(total, name, line, operands)
      self._descend(total, line, lines, fused)
    return total

  def _descend(
    self,
    total: _Cost,
    line: hlo.Instruction,
    lines: hlo.Computation,
    fused: bool,
  ) -> None:
    if line.opcode not in (*_CALLS, "while", "conditional"):
      return
    called = line.called
    if line.opcode == "while":
      times = trip_count(self._module, line, lines)
      total.unknown_loops += times is None
      turns = 1 if times is None else times
      for part in ("body", "condition"):
        total.add(self.cost(called[part][0], fused), turns)
    elif line.opcode == "conditional":
      names = [n for part in called.values() for n in part]
      branches = [self.cost(n, fused) for n in names]
      total.add(max(branches, key=lambda c: (c.multiplied, c.bytes)))
    else:
      inside = fused or line.opcode == "fusion"
      for part in called.values():
        for n in part:
          total.add(self.cost(n, inside))

  def _collect(
    self,
    total: _Cost,
    computation: str,
    line: hlo.Instruction,
    operands: list[hlo.Shape],
  ) -> None:
    partitions = self._module.partitions
    if key := between_slices(line, partitions):
      kind, devices = key
    elif (kind := line.opcode.removesuffix("-start")) in COLLECTIVES:
      devices = members(line, partitions)
    else:
      return
    # TPUs scatter inside of a fusion that reduces all and keeps a slice.
    if computation.startswith("all-reduce-scatter"):
      kind = "reduce-scatter"
    if len(devices) > 1:
      moved = sum(shape.data_bytes for shape in operands)
      moved *= len(devices) if kind == "all-gather" else 1
      total.collect((kind, devices), 1, moved)

  def _bytes(self, line: hlo.Instruction, lines: hlo.Computation) -> int:
    """Read and written by an instruction that stands by itself."""
    opcode = line.opcode
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
      return 0
    if opcode == "fusion":
      return self._fusion_bytes(line, lines)
    if opcode in _SLICES:
      return 2 * _in_memory(line.shapes)
    shapes = [lines[o].shapes for o in line.operands if o in lines]
    if opcode in ("dynamic-update-slice", "scatter"):
      changed = shapes[1 if opcode == "dynamic-update-slice" else -1]
      return 2 * _in_memory(changed)
    results = () if opcode == "send" else line.shapes
    if opcode.endswith("-start"):
      # The result of one that is not waited for holds its operands too.
      results = results[:1] if opcode == "copy-start" else results[1:2]
    return sum(map(_in_memory, shapes)) + _in_memory(results)

  def _fusion_bytes(self, line: hlo.Instruction, lines: hlo.Computation) -> int:
    """A fusion reads the slices that it takes and writes those that it sets."""
    (name,) = line.called["calls"]
    inside = self._module.computations[name]
    total = sum(
      _in_memory(_written(result, inside)) for result in _results(inside)
    )
    parameters = [x for x in inside.values() if x.opcode == "parameter"]
    for parameter in parameters:
      operand = lines.get(line.operands[int(parameter.argument)])
      if operand is None or not any(s.in_main_memory for s in operand.shapes):
        continue
      total += _read(parameter, inside)
    return total


def _results(inside: hlo.Computation) -> Iterator[hlo.Instruction]:
  root = next(x for x in inside.values() if x.root)
  names = root.operands if root.opcode == "tuple" else (root.name,)
  return (inside[name] for name in names)


def _written(
  result: hlo.Instruction, inside: hlo.Computation
) -> tuple[hlo.Shape, ...]:
  if result.opcode == "dynamic-update-slice":
    return inside[result.operands[1]].shapes
  return result.shapes


def _read(parameter: hlo.Instruction, inside: hlo.Computation) -> int:
  users = [x for x in inside.values() if parameter.name in x.operands]

  def of(user: hlo.Instruction) -> int:
    first = user.operands[0] == parameter.name
    if first and user.opcode in _SLICES:
      return sum(s.bytes for s in user.shapes)
    if first and user.opcode == "dynamic-update-slice":
      return 0
    return sum(s.bytes for s in parameter.shapes)

  whole = sum(s.bytes for s in parameter.shapes)
  return min(whole, sum(map(of, users)))


def _in_memory(shapes: tuple[hlo.Shape, ...]) -> int:
  return sum(s.bytes for s in shapes if s.in_main_memory)


def _elementwise(line: hlo.Instruction, operands: list[hlo.Shape]) -> int:
  if line.opcode in _ELEMENTWISE:
    return line.shape.size
  if line.opcode in ("reduce", "reduce-scatter", "all-reduce"):
    if line.opcode != "reduce":
      return sum(s.size for s in operands)
    half = operands[: len(operands) // 2]
    return sum(s.size for s in half) - sum(s.size for s in line.shapes)
  if line.opcode == "reduce-window":
    window = re.search(r"window=\{size=([\dx]+)", line.attributes)
    taps = math.prod(int(i) for i in window[1].split("x")) if window else 1
    return line.shape.size * (taps - 1)
  return 0
