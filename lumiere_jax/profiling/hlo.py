# SPDX-License-Identifier: Apache-2.0
"""Reads the text of a compiled program: XLA's HLO, as `Compiled.as_text()`.

There is no public parser of it in Python. What is read here is what the printer
writes on CPUs, GPUs and TPUs alike: computations, one instruction a line, with
shape, operands and attributes.
"""

import math
import re
from dataclasses import dataclass

# Bytes of an element; types of 4 bits and tokens are nothing a network has.
_WIDTHS = {
  "pred": 1,
  "bf16": 2,
  "token": 0,
  "opaque": 0,
  "c64": 8,
  "c128": 16,
}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_COMMENT = re.compile(r"/\*.*?\*/")
_NAME = re.compile(r"\s*(ROOT )?%?([\w.-]+) = ")
# Types may stand before operands' names, and "%" may be left out.
_OPERAND = re.compile(r"(?:^|[ %])([A-Za-z_][\w.-]*)(?=,|$)")
_HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) (?:\(.*)?\{$")
_CALLED = re.compile(
  r"\b(calls|to_apply|body|condition|true_computation|false_computation"
  r"|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.-]+)"
)


@dataclass(frozen=True)
class Shape:
  """An array, as it lies in memory.

  Attributes:
    dtype: XLA's name, as "bf16".
    dims: sizes.
    layout: text between its braces, "1,0:T(8,128)S(1)".
  """

  dtype: str
  dims: tuple[int, ...]
  layout: str = ""

  @property
  def size(self) -> int:
    return math.prod(self.dims)

  @property
  def data_bytes(self) -> int:
    """What its elements take."""
    return self.size * _width(self.dtype)

  @property
  def bytes(self) -> int:
    """What it takes in memory, with what fills the tiles of a TPU.

    A tile spans the two axes that vary fastest, those first in the layout.
    """
    dims = list(self.dims)
    order = [int(i) for i in re.findall(r"\d+", self.layout.split(":")[0])]
    tile = re.search(r"T\((\d+),(\d+)\)", self.layout)
    if tile and len(order) >= 2:
      for axis, unit in zip(order, reversed(tile.groups()), strict=False):
        dims[axis] = -(-dims[axis] // int(unit)) * int(unit)
    return math.prod(dims) * _width(self.dtype)

  @property
  def in_main_memory(self) -> bool:
    """Not in a space of its own, as the on-chip memory of TPUs."""
    return not re.search(r"S\([1-9]", self.layout)


def _width(dtype: str) -> int:
  if dtype in _WIDTHS:
    return _WIDTHS[dtype]
  bits = re.search(r"\d+", dtype)
  return max(int(bits.group()) // 8, 1) if bits else 0


@dataclass(frozen=True)
class Instruction:
  """One line of a computation.

  Attributes:
    name: unique within the program.
    opcode: as "dot".
    shapes: of the result; several of a tuple, nested ones flattened.
    operands: names of other instructions.
    attributes: text behind the operands.
    argument: text between the parentheses; the value of a constant.
    root: whether it is the computation's result.
  """

  name: str
  opcode: str
  shapes: tuple[Shape, ...]
  operands: tuple[str, ...]
  attributes: str
  argument: str
  root: bool

  @property
  def shape(self) -> Shape:
    """Of the result; the first of a tuple."""
    return self.shapes[0]

  def dims(self, name: str) -> tuple[int, ...]:
    """The numbers of an attribute such as `lhs_contracting_dims={1,2}`."""
    found = re.search(rf"\b{name}=\{{([\d,]*)\}}", self.attributes)
    return tuple(int(i) for i in re.findall(r"\d+", found[1])) if found else ()

  def number(self, name: str, default: int) -> int:
    """The value of an attribute such as `feature_group_count=4`."""
    found = re.search(rf"\b{name}=(-?\d+)", self.attributes)
    return int(found[1]) if found else default

  @property
  def called(self) -> dict[str, tuple[str, ...]]:
    """Names of computations by the attribute that names them."""
    return {
      key: tuple(re.findall(r"[\w.-]+", names))
      for key, names in _CALLED.findall(self.attributes)
    }


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Module:
  """A program.

  Attributes:
    entry: name of the computation that runs.
    computations: by name; each its instructions by name, in order.
    partitions: devices that run it together.
  """

  entry: str
  computations: dict[str, Computation]
  partitions: int

  def root(self, computation: str) -> Instruction:
    """The instruction that is a computation's result."""
    lines = self.computations[computation]
    return next(x for x in lines.values() if x.root)


def parse(text: str) -> Module:
  """Reads a program.

  Raises:
    ValueError: the text is none.
  """
  lines = text.splitlines()
  if not lines or not lines[0].startswith("HloModule"):
    raise ValueError("no text of an HLO module")
  replicas, partitions = (
    int(found[1]) if (found := re.search(rf"{name}=(\d+)", lines[0])) else 1
    for name in ("replica_count", "num_partitions")
  )
  entry, computations = "", {}
  current: Computation = {}
  for line in lines[1:]:
    if head := _HEAD.match(line):
      current = computations.setdefault(head[2], {})
      entry = head[2] if head[1] else entry
    elif name := _NAME.match(line):
      instruction = _instruction(name, line)
      current[instruction.name] = instruction
  if not entry:
    raise ValueError("a program without ENTRY computation")
  return Module(entry, computations, replicas * partitions)


def _instruction(name: re.Match[str], line: str) -> Instruction:
  rest = _COMMENT.sub("", line[name.end() :])
  end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
  shape, rest = rest[:end], rest[end:].lstrip()
  opening = rest.index("(")
  end = _closing(rest, opening)
  argument = rest[opening + 1 : end - 1]
  return Instruction(
    name=name[2],
    opcode=rest[:opening],
    shapes=tuple(
      Shape(
        dtype, tuple(int(i) for i in re.findall(r"\d+", dims)), layout or ""
      )
      for dtype, dims, layout in _ARRAY.findall(shape)
    ),
    operands=tuple(_OPERAND.findall(argument)),
    attributes=rest[end:],
    argument=argument,
    root=bool(name[1]),
  )


def _closing(text: str, start: int) -> int:
  """Where the parenthesis that opens at `start` has closed."""
  depth = 0
  for i in range(start, len(text)):
    depth += (text[i] == "(") - (text[i] == ")")
    if depth == 0:
      return i + 1
  raise ValueError(f"unbalanced parentheses: {text[:80]!r}")
