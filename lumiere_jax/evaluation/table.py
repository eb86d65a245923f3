# SPDX-License-Identifier: Apache-2.0
"""A report as Markdown tables."""

from collections.abc import Callable, Mapping
from typing import Any

from lumiere_jax.evaluation.report import ACCURACIES

Row = Mapping[str, Any]
Cells = Mapping[str, Callable[[Row], str]]


def format_table(report: Row) -> str:
  """Markdown tables of all rows, accuracies in percent.

  One of what every row has, one of the movements asked for, and one of each
  kind of row for what only those have; what a report lacks is left out.
  """
  rows = {k: v for k, v in report.items() if k not in _SECTIONS}
  tables = [_table(rows, _common(rows)), *_movements(rows)] if rows else []
  for field, cells in (("psnr_db", _GIVEN), ("layout_iou", _EDIT)):
    some = {name: row for name, row in rows.items() if field in row}
    tables += [_table(some, cells)] if some else []
  for style, alphas in report.get("style", {}).items():
    named = {f"{style} {alpha}": row for alpha, row in alphas.items()}
    tables.append(_table(named, _common(named)))
    tables.append(_table(named, _style_cells(alphas)))
  enlarged = report.get("upscale", {})
  for name in (name for name in enlarged if name != "protocol"):
    named = {f"{name}: {kind}": row for kind, row in enlarged[name].items()}
    tables.append(_table(named, _enlarged_cells(enlarged[name])))
  return "\n\n".join(tables)


# Of a report, what are no rows of clips made of words or of given parts.
_SECTIONS = ("protocol", "style", "upscale")


def _table(rows: Mapping[str, Row], cells: Cells, head: str = "row") -> str:
  lines = [
    f"| {head} | " + " | ".join(cells) + " |",
    "|---" * (len(cells) + 1) + "|",
  ]
  for name, row in rows.items():
    values = " | ".join(cell(row) for cell in cells.values())
    lines.append(f"| {name} | {values} |")
  return "\n".join(lines)


def _common(rows: Mapping[str, Row]) -> Cells:
  """The columns of `_ALL` that a row has a value of."""
  return {
    name: cell
    for name, cell in _ALL.items()
    if any(row.get(name) is not None for row in rows.values())
  }


def _movements(rows: Mapping[str, Row]) -> list[str]:
  """A line for each movement: its accuracy in each row."""
  found = dict.fromkeys(
    name for row in rows.values() for name in row.get("by_movement", {})
  )
  lines = {
    movement: {
      k: v.get("by_movement", {}).get(movement) for k, v in rows.items()
    }
    for movement in found
  }
  cells = {name: _movement(name) for name in rows}
  return [_table(lines, cells, "movement")] if lines else []


def _movement(name: str) -> Callable[[Row], str]:
  def cell(line: Row) -> str:
    if line[name] is None:
      return "-"
    low, high = line[name]["interval_95"]
    value = _with_interval(line[name]["accuracy"], low, high)
    return f"{value}, n {line[name]['n']}"

  return cell


def _accuracy(name: str) -> Callable[[Row], str]:
  def cell(row: Row) -> str:
    if row.get(name) is None:
      return "-"
    return _with_interval(row[name], *row["interval_95"][name])

  return cell


def _with_interval(share: float, low: float, high: float) -> str:
  return f"{100 * share:.1f} ({100 * low:.0f} to {100 * high:.0f})"


def _percent(name: str) -> Callable[[Row], str]:
  return lambda row: f"{100 * row[name]:.0f}"


def _number(value: int | float | None, digits: int = 1) -> str:
  return "-" if value is None else f"{value:.{digits}f}"


def _of(field: str, name: str, digits: int = 1) -> Callable[[Row], str]:
  return lambda row: _number(row[field].get(name), digits)


_ALL: Cells = {
  **{name: _accuracy(name) for name in ACCURACIES},
  "flicker": lambda row: _number(row["flicker"], 2),
  "frame_difference": lambda row: _number(row["frame_difference"], 2),
  "background_noise": lambda row: _number(row.get("background_noise"), 2),
  "n": lambda row: str(row["n"]),
}

_GIVEN: Cells = {
  "given_exact": _percent("given_exact"),
  "R@1 along": lambda row: ", ".join(
    f"{100 * share:.0f}" for share in row["object_r1_along"]
  ),
  "PSNR made": _of("psnr_db", "made"),
  "PSNR fill": _of("psnr_db", "fill"),
  "closer_than_fill": _percent("closer_than_fill"),
  **{
    f"motion {name}": _of("motion", name)
    for name in ("made", "fill", "real", "given")
  },
  "movement fill": lambda row: f"{100 * row['fill']['movement_accuracy']:.0f}",
}

_EDIT: Cells = {
  "layout_iou": lambda row: _number(row["layout_iou"], 2),
  "layout_iou_other": lambda row: _number(row["layout_iou_other"], 2),
  "source_object_r1": _percent("source_object_r1"),
}


# Measures of an enlarged clip, and how many digits they are told with.
_ENLARGED = {
  "psnr_db": 2,
  "ssim": 4,
  "feature_distance": 4,
  "sharpness": 0,
  "flicker": 2,
  "frame_difference": 2,
  "seam_ratio": 3,
  "n": 0,
}


def _enlarged_cells(rows: Mapping[str, Row]) -> Cells:
  def cell(name: str, digits: int) -> Callable[[Row], str]:
    return lambda row: _number(row.get(name), digits)

  found = {name for row in rows.values() for name in row}
  return {k: cell(k, d) for k, d in _ENLARGED.items() if k in found}


def _style_cells(alphas: Mapping[str, Row]) -> Cells:
  names = next(iter(alphas.values()))["color_distance"]
  return {
    f"{field} to {name}": _of(f"{field}_distance", name, 2)
    for field in ("color", "edge")
    for name in names
  }
