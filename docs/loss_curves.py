# SPDX-License-Identifier: Apache-2.0
"""Draws the loss of training runs, by quarter of the timesteps; prints hours.

python docs/loss_curves.py --out=docs/loss.png runs/t2i runs/t2v
(needs matplotlib, of the "eval" extra). A run is its workdir, or a copy of its
metrics.jsonl, which does not tell the hours.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("runs", nargs="+", help="workdirs or .jsonl files")
  parser.add_argument("--out", required=True)
  args = parser.parse_args()
  count = len(args.runs)
  _, axes = plt.subplots(1, count, figsize=(5 * count, 3.5), squeeze=False)
  for axis, run in zip(axes[0], map(Path, args.runs), strict=True):
    file = run / "metrics.jsonl" if run.is_dir() else run
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    if run.is_dir():
      print(run.name, _cost(run, lines))
    steps = [line["step"] for line in lines]
    axis.plot(steps, [line["loss"] for line in lines], "k", label="all")
    for i, name in enumerate(("least noise", "second", "third", "most noise")):
      values = np.asarray([line["loss_by_t"][i] for line in lines], float)
      drawn = np.isfinite(values)  # A quarter may go a while without a draw.
      axis.plot(np.asarray(steps)[drawn], values[drawn], lw=0.8, label=name)
    axis.set(title=run.stem, xlabel="step", ylabel="loss", yscale="log")
    axis.legend(fontsize=7)
  plt.tight_layout()
  plt.savefig(args.out, dpi=110)


def _cost(run: Path, lines: list[dict[str, Any]]) -> str:
  """What the run took while it ran: pauses and compilation do not count."""
  config = json.loads((run / "weights" / "config.json").read_text())
  batch = config["train"]["batch_size"]
  unit = "clips" if config["train"]["stage"] == "video" else "stills"
  done = np.diff([0, *(line["step"] for line in lines)]) * batch
  rate = f"{unit}_per_second"
  rates = np.asarray([line.get(rate, np.nan) for line in lines])
  rates = np.where(np.isnan(rates), np.nanmedian(rates), rates)
  hours = np.sum(done / rates) / 3600
  return (
    f"steps {lines[-1]['step']}, {unit} {done.sum()}, hours {hours:.1f}, "
    f"median rate {np.median(rates):.2f}/s"
  )


if __name__ == "__main__":
  main()
