# SPDX-License-Identifier: Apache-2.0
"""Draws the loss of training runs, by quarter of the timesteps; prints hours.

python docs/loss_curves.py --out=docs/loss.png runs/t2i runs/t2v
(needs matplotlib, of the "eval" extra). A run is its workdir, or a copy of its
metrics.jsonl, which does not tell the hours. --together draws the losses of all
runs, in training and of held-out clips, on one picture: those of runs NAME=FILE
of one name in one colour.
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
  parser.add_argument("--together", action="store_true")
  args = parser.parse_args()
  draw = _draw_together if args.together else _draw_each
  draw(args.runs)
  plt.tight_layout()
  plt.savefig(args.out, dpi=110)


def _all_lines(run: Path) -> list[dict[str, Any]]:
  file = run / "metrics.jsonl" if run.is_dir() else run
  return [json.loads(line) for line in file.read_text().splitlines()]


def _lines(run: Path) -> list[dict[str, Any]]:
  """Metrics of the steps of a run, without what evaluators measured."""
  return [line for line in _all_lines(run) if "loss" in line]


def held_out_losses(run: Path) -> dict[int, float]:
  """The loss on held-out clips, by steps."""
  found = {line["step"]: line.get("eval", {}) for line in _all_lines(run)}
  return {
    n: x["held_out/loss"] for n, x in found.items() if "held_out/loss" in x
  }


def _draw_each(runs: list[str]) -> None:
  count = len(runs)
  _, axes = plt.subplots(1, count, figsize=(5 * count, 3.5), squeeze=False)
  for axis, run in zip(axes[0], map(Path, runs), strict=True):
    lines = _lines(run)
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


def _draw_together(runs: list[str]) -> None:
  colors: dict[str, str] = {}
  _, axes = plt.subplots(1, 2, figsize=(10, 3.5))
  for item in runs:
    name, _, run = item.rpartition("=")
    label = None if name in colors else name
    color = colors.setdefault(name, f"C{len(colors)}")
    lines, held_out = _lines(Path(run)), held_out_losses(Path(run))
    losses = [line["loss"] for line in lines]
    steps = [line["step"] for line in lines]
    axes[0].plot(steps, losses, color, lw=0.8, label=label)
    axes[1].plot(
      held_out.keys(), held_out.values(), color, marker=".", label=label
    )
    told = "".join(f", {n}: {x:.4f}" for n, x in held_out.items())
    print(f"{item}: mean loss {np.mean(losses):.4f}; held out{told}")
  for axis, title in zip(axes, ("training", "held-out clips"), strict=True):
    axis.set(title=title, xlabel="step", ylabel="loss")
  axes[0].legend()


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
