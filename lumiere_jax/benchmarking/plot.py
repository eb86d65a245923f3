# SPDX-License-Identifier: Apache-2.0
"""A roofline plot of the network's blocks."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Where a label may stand, from its dot: in points away from the dot's edge, and
# in degrees. The first place that is free is taken.
_AWAY = (6, 14, 24, 36, 50, 66, 84)
_ANGLES = (20, 160, 340, 200, 70, 110, 290, 250, 0, 180)
_FONT = 8


def draw_roofline(result: Mapping[str, Any], path: Path) -> None:
  """Writes `roofline_figure` as a PNG.

  Args:
    result: of `bench.run` with blocks.
    path: of the PNG.
  """
  figure = roofline_figure(result)
  figure.savefig(path, format="png", metadata={"Software": None})


def roofline_figure(result: Mapping[str, Any]) -> Any:
  """Draws what each block reaches under what the device can do.

  The roof is the lower of bandwidth times operations per byte and the peak
  (Williams et al., CACM 52(4), 2009); dots are as large as their time is long.

  Args:
    result: of `bench.run` with blocks.

  Returns:
    A figure of matplotlib, whose labels overlap neither each other nor a dot.
  """
  from matplotlib.figure import Figure

  use, blocks = result["utilization"], result["blocks"]
  named = use["named_bandwidth"] or use["bandwidth"]
  figure = Figure(figsize=(7, 4.5), dpi=100, layout="constrained")
  axes = figure.subplots()
  places = [block["flops_per_byte"] for block in blocks]
  ridge = use["flops"] / named
  left, right = min([*places, ridge]) / 2, max([*places, ridge]) * 2
  roof = [min(use["flops"], named * x) for x in (left, ridge, right)]
  axes.loglog((left, ridge, right), roof, color="black", linewidth=1)
  total = sum(block["seconds"] for block in blocks)
  shares = [block["seconds"] / total for block in blocks]
  for i, (block, share) in enumerate(zip(blocks, shares, strict=True)):
    x, y = block["flops_per_byte"], block["flops_per_second"]
    axes.scatter(x, y, s=_area(share), color=f"C{i % 10}", alpha=0.8)
  axes.set_xlabel("operations for each byte of main memory")
  axes.set_ylabel("operations per second")
  axes.set_title(
    f"{result['config']}, {result['what']}: "
    f"{use['flops'] / 1e9:.4g} GFLOP/s ({use['flops_source']}), "
    f"{named / 1e9:.3g} GB/s",
    fontsize=9,
  )
  _label(figure, axes, blocks, shares)
  return figure


def _area(share: float) -> float:
  """Of a dot, in square points."""
  return 20 + 400 * share


def _label(
  figure: Any,
  axes: Any,
  blocks: Sequence[Mapping[str, Any]],
  shares: Sequence[float],
) -> None:
  """Writes each block's name and share beside its dot, with a line to it."""
  from matplotlib.transforms import Bbox

  figure.draw_without_rendering()  # Only then it is known where things are.
  point = figure.dpi / 72
  dots, radii = [], []
  for block, share in zip(blocks, shares, strict=True):
    place = block["flops_per_byte"], block["flops_per_second"]
    dots.append(axes.transData.transform(place))
    radii.append(math.sqrt(_area(share) / math.pi) * point)
  taken = [
    Bbox.from_bounds(x - r, y - r, 2 * r, 2 * r)
    for (x, y), r in zip(dots, radii, strict=True)
  ]
  for i, (block, share) in enumerate(zip(blocks, shares, strict=True)):
    label = axes.annotate(
      f"{block['name']} {share:.0%}",
      (block["flops_per_byte"], block["flops_per_second"]),
      textcoords="offset points",
      xytext=(0, 0),
      fontsize=_FONT,
      ha="center",
      va="center",
      arrowprops=dict(arrowstyle="-", color="gray", linewidth=0.6),
    )
    extent = label.get_window_extent()
    for away, degrees in itertools.product(_AWAY, _ANGLES):
      across = math.cos(math.radians(degrees))
      up = math.sin(math.radians(degrees))
      # From the middle of the dot to that of the label.
      reach = radii[i] + away * point
      dx = across * (reach + extent.width / 2)
      dy = up * (reach + extent.height / 2)
      x, y = dots[i]
      box = Bbox.from_bounds(
        x + dx - extent.width / 2 - point,
        y + dy - extent.height / 2 - point,
        extent.width + 2 * point,
        extent.height + 2 * point,
      )
      inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
      inside = inside and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
      if inside and not any(box.overlaps(other) for other in taken):
        break
    label.set_position((dx / point, dy / point))
    taken.append(box)
