# SPDX-License-Identifier: Apache-2.0
"""Two results side by side, and whether the second is worse."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError

# What must agree for a comparison to mean anything.
_SAME = ("config", "what", "clips", "frames", "size_px", "dtype")
# Figures by how they are judged: numbers of a program are exact, times not.
_COUNTS = (
  "counts.parameters",
  "counts.parameter_bytes",
  "counts.argument_bytes",
  "counts.flops_lowered",
  "counts.operations_lowered",
)
_TIMES = (
  "throughput.seconds_per_clip",
  "compile.compile",
  "compile.second_start",
  "memory.program_peak",
)
# They are larger where it is better, and follow from the times.
_RATES = ("throughput.frames_per_second", "utilization.mfu")


@dataclass(frozen=True)
class Row:
  """One figure of both results.

  Attributes:
    name: where it stands.
    before: of the first.
    after: of the second.
    tolerance: by which share it may grow; None is not judged.
  """

  name: str
  before: int | float
  after: int | float
  tolerance: float | None

  @property
  def ratio(self) -> float:
    """The second over the first."""
    if self.before:
      return self.after / self.before
    return 1.0 if not self.after else float("inf")

  @property
  def worse(self) -> bool:
    return self.tolerance is not None and self.ratio > 1 + self.tolerance


def read_result(path: str) -> Mapping[str, Any]:
  """Reads what `python -m lumiere_jax.benchmark --out` wrote.

  Raises:
    UserError: it cannot be read, or is something else.
  """
  try:
    result = json.loads(Path(path).read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise UserError(f"cannot read the result {path!r}: {error}") from error
  if not isinstance(result, dict) or not isinstance(
    result.get("counts", result.get("throughput")), dict
  ):
    raise UserError(f"{path!r} is no result of this benchmark")
  return result


def compare(
  before: Mapping[str, Any],
  after: Mapping[str, Any],
  tolerance: float,
  count_tolerance: float,
) -> list[Row]:
  """The figures that both have.

  Times are judged between runs on the same kind of machine, counts between
  runs of the same JAX, for it lowers programs in its own way.

  Args:
    before: what is compared with.
    after: what must not be worse.
    tolerance: by which share times may grow.
    count_tolerance: by which share counts may.

  Raises:
    UserError: they are of different things.
  """
  for name in _SAME:
    if before.get(name) != after.get(name):
      raise UserError(
        f"results of different things: {name} is {before.get(name)!r} and "
        f"{after.get(name)!r}"
      )
  here, there = (r.get("environment", {}) for r in (before, after))
  machine = all(
    here.get(name) == there.get(name)
    for name in ("device", "devices", "processor", "cores")
  )
  version = _minor(here) == _minor(there)
  judged = {
    **dict.fromkeys(_COUNTS, count_tolerance if version else None),
    **dict.fromkeys(_TIMES, tolerance if machine else None),
    **dict.fromkeys(_RATES),
  }
  rows = []
  for name, allowed in judged.items():
    values = [_find(result, name) for result in (before, after)]
    if all(isinstance(value, int | float) for value in values):
      rows.append(Row(name, *values, allowed))
  if not rows:
    raise UserError("the two results have no figure in common")
  return rows


def as_table(rows: list[Row]) -> str:
  """The rows for people; what is worse has a mark."""
  lines = [f"{'':<34} {'before':>14} {'after':>14} {'after/before':>12}"]
  for row in rows:
    mark = "  worse" if row.worse else ""
    if row.tolerance is None:
      mark = "  (not judged)"
    lines.append(
      f"{row.name:<34} {row.before:>14.6g} {row.after:>14.6g} "
      f"{row.ratio:>12.4f}{mark}"
    )
  return "\n".join(lines)


def _find(result: Mapping[str, Any], name: str) -> Any:
  value: Any = result
  for part in name.split("."):
    value = value.get(part) if isinstance(value, Mapping) else None
  return value


def _minor(environment: Mapping[str, Any]) -> str:
  version = environment.get("versions", {}).get("jax", "")
  return ".".join(version.split(".")[:2])
