# SPDX-License-Identifier: Apache-2.0
"""How often the loops of a compiled program turn."""

import re

from lumiere_jax.profiling import hlo


def trip_count(
  module: hlo.Module, loop: hlo.Instruction, lines: hlo.Computation
) -> int | None:
  """How often a loop turns, or None where the text does not tell.

  Where XLA has not written it down (on TPUs), the loop must be one that counts
  from a constant up to another by ones, as those of `scan` and `fori_loop`.

  Args:
    module: the program.
    loop: its `while`.
    lines: the computation that the loop is in.
  """
  known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
  if known:
    return int(known[1])
  condition = module.computations[loop.called["condition"][0]]
  test = module.root(loop.called["condition"][0])
  names = test.operands
  if test.opcode == "fusion":
    test = module.root(test.called["calls"][0])
  direction = re.search(r"direction=(\w\w)", test.attributes)
  if test.opcode != "compare" or not direction or len(names) != 2:
    return None
  start, end = (_constant(name, condition, loop, lines) for name in names)
  if start is None or end is None or direction[1] not in ("LT", "LE"):
    return None
  return max(end - start + (direction[1] == "LE"), 0)


def _constant(
  name: str,
  condition: hlo.Computation,
  loop: hlo.Instruction,
  lines: hlo.Computation,
) -> int | None:
  """The number of this name in a loop's condition, before the first turn."""
  line = condition[name]
  while line.opcode in ("copy", "bitcast", "convert"):
    line = condition[line.operands[0]]
  if line.opcode == "get-tuple-element":
    start = lines.get(loop.operands[0])
    if start is None or start.opcode != "tuple":
      return None
    line = lines[start.operands[line.number("index", 0)]]
    while line.opcode in ("copy", "bitcast") and line.operands[0] in lines:
      line = lines[line.operands[0]]
  if line.opcode != "constant" or not re.fullmatch(r"-?\d+", line.argument):
    return None
  return int(line.argument)
