# SPDX-License-Identifier: Apache-2.0
"""Draws what alpha between two styles does (section 4.1 of the paper).

python docs/style_alpha.py --out=docs/style_alpha.png \
  docs/applications_metrics.json
(needs matplotlib, of the "eval" extra). The file is a report of
`lumiere_jax.evaluate --style=STYLE`, or several put together; dashed lines are
real clips of the style.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Of rows of a report, and by how much to multiply it.
MEASURES = {
  "distance of colours": ("color_distance", 1),
  "distance of edges": ("edge_distance", 1),
  "movement right, %": ("movement_accuracy", 100),
  "object as in the original style, R@1 %": ("object_r1", 100),
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("report", type=Path)
  parser.add_argument("--out", required=True)
  args = parser.parse_args()
  styles = json.loads(args.report.read_text(encoding="utf-8"))["style"]
  count = len(MEASURES)
  _, axes = plt.subplots(1, count, figsize=(3.4 * count, 3.2))
  for axis, (name, measure) in zip(axes, MEASURES.items(), strict=True):
    for number, (style, rows) in enumerate(styles.items()):
      color = f"C{number}"
      along, real = curve(rows, style, *measure)
      axis.plot(along.keys(), along.values(), color, marker=".", label=style)
      axis.axhline(real, color=color, ls="--", lw=0.8)
    axis.set(title=name, xlabel="alpha", ylim=(0, None))
    axis.title.set_fontsize(9)
  axes[0].legend()
  plt.tight_layout()
  plt.savefig(args.out, dpi=100)


def curve(
  rows: dict[str, dict[str, Any]], style: str, field: str, scale: float
) -> tuple[dict[float, float], float]:
  """A measure by alpha, and that of real clips of the style."""
  real = f"real {style}"
  values = {}
  for name, row in rows.items():
    value = row[field]
    # Distances are to stills of each style.
    values[name] = scale * (value[style] if isinstance(value, dict) else value)
  along = {float(n): v for n, v in values.items() if not n.startswith("real")}
  return along, values[real]


if __name__ == "__main__":
  main()
