# SPDX-License-Identifier: Apache-2.0
"""Draws how enlarged still clips change from frame to frame (Fig. 14).

python docs/seams.py --out=docs/seams.png "overlap 0=a.json" "overlap 2=b.json"
(needs matplotlib, of the "eval" extra). The files are reports of
`lumiere_jax.evaluate --tasks=upscale`; dashed lines are where segments meet.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("reports", nargs="+", help="NAME=FILE")
  parser.add_argument("--out", required=True)
  args = parser.parse_args()
  count = len(args.reports)
  _, axes = plt.subplots(
    1, count, figsize=(5 * count, 3.2), sharey=True, squeeze=False
  )
  for axis, item in zip(axes[0], args.reports, strict=True):
    name, _, file = item.partition("=")
    report = json.loads(Path(file).read_text())["upscale"]
    for border in report["protocol"]["segment_borders"]:
      axis.axvline(border, color="0.8", ls="--", lw=0.8)
    row = report["still"]["model"]
    axis.plot(row["neighbour_mse"], "k", lw=1)
    ratio = row["seam_ratio"]
    axis.set(title=f"{name}: seam ratio {ratio:.2f}", xlabel="frame")
  axes[0, 0].set_ylabel("squared difference to the next frame")
  plt.tight_layout()
  plt.savefig(args.out, dpi=110)


if __name__ == "__main__":
  main()
