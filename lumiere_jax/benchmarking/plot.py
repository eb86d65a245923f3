# SPDX-License-Identifier: Apache-2.0
"""A roofline plot of the network's blocks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError


def check_matplotlib() -> None:
  """Raises UserError if there is nothing to draw with."""
  try:
    import matplotlib  # noqa: F401
  except ImportError as error:
    raise UserError(
      "--plot needs matplotlib: pip install 'lumiere_jax[eval]'"
    ) from error


def draw_roofline(result: Mapping[str, Any], path: Path) -> None:
  """Draws what each block reaches under what the device can do.

  The roof is the lower of bandwidth times operations per byte and the peak
  (Williams et al., CACM 52(4), 2009); dots are as large as their time is long.

  Args:
    result: of `bench.run` with blocks.
    path: of a PNG.
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
  for i, block in enumerate(blocks):
    share = block["seconds"] / total
    x, y = block["flops_per_byte"], block["flops_per_second"]
    axes.scatter(x, y, s=20 + 400 * share, color=f"C{i % 10}", alpha=0.8)
    axes.annotate(
      f"{block['name']} {share:.0%}",
      (x, y),
      textcoords="offset points",
      xytext=(6, 6 if i % 2 else -10),
      fontsize=8,
    )
  axes.set_xlabel("operations for each byte of main memory")
  axes.set_ylabel("operations per second")
  axes.set_title(
    f"{result['config']}, {result['what']}: "
    f"{use['flops'] / 1e9:.4g} GFLOP/s ({use['flops_source']}), "
    f"{named / 1e9:.3g} GB/s",
    fontsize=9,
  )
  figure.savefig(path, format="png", metadata={"Software": None})
