# SPDX-License-Identifier: Apache-2.0
"""Draws the loss of training runs, by quarter of the timesteps.

python docs/loss_curves.py --out=docs/loss.png runs/t2i runs/t2v
(needs the "eval" extra)
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("runs", nargs="+", help="workdirs")
  parser.add_argument("--out", required=True)
  args = parser.parse_args()
  count = len(args.runs)
  _, axes = plt.subplots(1, count, figsize=(5 * count, 3.5), squeeze=False)
  for axis, run in zip(axes[0], args.runs, strict=True):
    text = (Path(run) / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    steps = [line["step"] for line in lines]
    axis.plot(steps, [line["loss"] for line in lines], "k", label="all")
    for i, name in enumerate(("least noise", "second", "third", "most noise")):
      values = [line["loss_by_t"][i] for line in lines]
      axis.plot(steps, values, lw=0.8, label=name)
    axis.set(title=Path(run).name, xlabel="step", ylabel="loss", yscale="log")
    axis.legend(fontsize=7)
  plt.tight_layout()
  plt.savefig(args.out, dpi=110)


if __name__ == "__main__":
  main()
