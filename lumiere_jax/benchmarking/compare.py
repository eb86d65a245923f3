# SPDX-License-Identifier: Apache-2.0
"""Two results side by side, and whether the second is worse."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError

# What must agree for a comparison to mean anything.
_SAME = (
  "config",
  "what",
  "clips",
  "frames",
  "size_px",
  "dtype",
  "source",
  "counts.steps",
  "counts.network_evaluations",
)
# Fields of the config that may differ all the same: what they begin with, by
# what runs without looking at them.
_UNSEEN = {
  "forward": ("sampler.", "train.", "data.data_dir"),
  "sample": ("train.", "data.data_dir"),
  "train": ("sampler.", "train.steps", "train.seed", "data.data_dir"),
  "loader": ("model.", "sampler.", "train.steps", "train.seed"),
}
_MACHINE = ("device", "devices", "processor", "cores")
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
_PARTS = ("counts", "throughput", "compile", "memory", "utilization")


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
    UserError: it cannot be read, is something else or damaged.
  """
  try:
    result = json.loads(Path(path).read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"cannot read the result {path!r}: {error}") from error
  if not isinstance(result, dict) or not {"counts", "throughput"} & set(result):
    raise UserError(f"{path!r} is no result of this benchmark")
  if "overrides" not in result:
    raise UserError(
      f"{path!r} does not tell what was overridden: it is of an older version "
      "of this benchmark, or of another program; measure it anew"
    )
  for name in ("overrides", "environment", *_PARTS):
    if not isinstance(part := result.get(name, {}), dict):
      raise UserError(f"the result {path!r} is damaged: {name} is {part!r}")
  for name in (*_MACHINE, "versions.jax"):
    value = _find(result.get("environment", {}), name)
    if not isinstance(value, str | int):
      raise UserError(
        f"the result {path!r} is damaged: environment.{name} is {value!r}"
      )
  return result


def compare(
  before: Mapping[str, Any],
  after: Mapping[str, Any],
  tolerance: float,
  count_tolerance: float,
) -> list[Row]:
  """The figures of the first result, each with the second's.

  Times are judged between runs on the same kind of machine, counts between
  runs of the same JAX, for it lowers programs in its own way.

  Args:
    before: what is compared with, as `read_result` gives it.
    after: what must not be worse.
    tolerance: by which share times may grow.
    count_tolerance: by which share counts may.

  Raises:
    UserError: they are of different things, or the second lacks a figure that
      the first one has.
  """
  _check_same(before, after)
  judged = {
    **dict.fromkeys(
      _COUNTS, count_tolerance if _same_jax(before, after) else None
    ),
    **dict.fromkeys(
      _TIMES, tolerance if _same_machine(before, after) else None
    ),
    **dict.fromkeys(_RATES),
  }
  rows = []
  for name, allowed in judged.items():
    if _find(before, name) is None:
      continue
    values = _number(before, name, "first"), _number(after, name, "second")
    rows.append(Row(name, *values, allowed))
  return rows


def check_judged(
  rows: Sequence[Row], before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
  """Raises UserError if no row is judged, and says why."""
  if any(row.tolerance is not None for row in rows):
    return
  reasons = []
  for name in (*_MACHINE, "versions.jax"):
    here, there = (_find(r["environment"], name) for r in (before, after))
    if here != there:
      reasons.append(f"{name} is {here!r} and {there!r}")
  told = ", ".join(reasons) or "the first result has no figure of the table"
  raise UserError(f"nothing could be judged: {told}")


def _check_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
  for name in _SAME:
    here, there = _find(before, name), _find(after, name)
    if here != there:
      raise UserError(
        f"results of different things: {name} is {here!r} and {there!r}"
      )
  unseen = _UNSEEN.get(str(before.get("what")), ())
  here, there = before["overrides"], after["overrides"]
  for name in sorted({*here, *there}):
    if here.get(name) != there.get(name) and not name.startswith(unseen):
      told = [
        f"{part[name]!r}" if name in part else "the config's own"
        for part in (here, there)
      ]
      raise UserError(
        f"results of different things: --config.{name} is {told[0]} and "
        f"{told[1]}"
      )


def _same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
  here, there = one["environment"], other["environment"]
  return all(here[name] == there[name] for name in _MACHINE)


def _same_jax(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
  here, there = (
    str(_find(result, "environment.versions.jax")).split(".")[:2]
    for result in (one, other)
  )
  return here == there


def _number(result: Mapping[str, Any], name: str, which: str) -> int | float:
  """A figure that can be compared.

  Raises:
    UserError: it is missing, or no number.
  """
  value = _find(result, name)
  if value is None:
    raise UserError(f"the {which} result has no {name}, which is compared")
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise UserError(f"the {which} result is damaged: {name} is {value!r}")
  if not math.isfinite(value):
    raise UserError(
      f"the {which} result has {name}={value}, which is no figure"
    )
  return value


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
