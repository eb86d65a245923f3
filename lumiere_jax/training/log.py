# SPDX-License-Identifier: Apache-2.0
"""Metrics of a run: JSONL, TensorBoard and a progress bar."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lumiere_jax.config import TrainConfig

AVERAGED = ("loss", "grad_norm", "update_norm", "param_norm")


class Logger:
  """Averages metrics over `cfg.log_every` steps and writes them.

  Its state is saved in the checkpoint: the averages of a run that is resumed
  are those of one that was never interrupted.

  Args:
    workdir: gets metrics.jsonl and tensorboard/.
    cfg: the recipe.
  """

  def __init__(self, workdir: str | os.PathLike, cfg: TrainConfig):
    self._workdir = Path(workdir)
    self._cfg = cfg
    self._window = _empty_window()
    self._file = self._board = self._bar = None
    self._mark = 0.0

  def get_state(self) -> dict[str, Any]:
    return dict(self._window)

  def set_state(self, state: dict[str, Any]) -> None:
    self._window = dict(state)

  def start(self, step: int) -> None:
    """Opens the files of a run that goes on after `step` steps.

    Lines after that step, of a run that died between checkpoints, are removed.
    """
    # Slow to import, and of use only here.
    from tensorboardX import SummaryWriter

    self._workdir.mkdir(parents=True, exist_ok=True)
    path = self._workdir / "metrics.jsonl"
    truncate_after(path, step)
    self._file = path.open("a")
    self._board = SummaryWriter(
      str(self._workdir / "tensorboard"), purge_step=step + 1
    )
    self._bar = tqdm(
      total=self._cfg.steps, initial=step, unit="step", disable=None
    )
    self.restart_clock()

  def restart_clock(self) -> None:
    """Leaves the time since the last step (saving, sampling) out of account."""
    self._mark = time.perf_counter()

  def add(self, step: int, metrics: Mapping[str, Any], wait: float) -> None:
    """Takes in the metrics of one step, and writes a line when one is due.

    Args:
      step: optimizer steps done, this one included.
      metrics: what the train step returned, on the host.
      wait: seconds spent on getting its batch.
    """
    now = time.perf_counter()
    window = self._window
    window["steps"] += 1
    window["seconds"] += now - self._mark
    window["wait"] += wait
    for name in AVERAGED:
      window[name] += float(metrics[name])
    for name in ("loss_sum", "loss_count"):
      window[name] = _add(window[name], metrics[name])
    self._mark = now
    self._bar.update()
    if step % self._cfg.log_every == 0:
      self._write(step, _line(step, window, float(metrics["lr"]), self._cfg))
      self._window = _empty_window()

  def say(self, text: str) -> None:
    """Prints one line without breaking the progress bar."""
    tqdm.write(text)

  def close(self) -> None:
    """Closes the files."""
    if self._file is not None:
      self._file.close()
      self._board.close()
      self._bar.close()

  def _write(self, step: int, line: dict[str, Any]) -> None:
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    for name, value in line.items():
      if name == "loss_by_t":
        for i, v in enumerate(value):
          if v is not None:
            self._board.add_scalar(f"loss_by_t/{i}", v, step)
      elif name not in ("step", "wall_time"):
        self._board.add_scalar(name, value, step)
    if self._bar.disable:
      self.say(f"step {step}/{self._cfg.steps} loss {line['loss']:.4f}")
    else:
      self._bar.set_postfix(loss=f"{line['loss']:.4f}")


def truncate_after(path: Path, step: int) -> None:
  """Removes the lines of a JSONL file after a step, and a torn last line."""
  if not path.exists():
    return
  kept = []
  for text in path.read_text().splitlines():
    try:
      if json.loads(text)["step"] > step:
        break
    except json.JSONDecodeError:
      break
    kept.append(text + "\n")
  part = path.with_suffix(".part")
  part.write_text("".join(kept))
  part.replace(path)


def _empty_window() -> dict[str, Any]:
  sums = dict.fromkeys(("steps", "seconds", "wait", *AVERAGED), 0)
  return {**sums, "loss_sum": [], "loss_count": []}


def _add(total: list[float], value: Any) -> list[float]:
  value = np.asarray(value, np.float64)
  return (value + total if total else value).tolist()


def _line(
  step: int, window: Mapping[str, Any], lr: float, cfg: TrainConfig
) -> dict[str, Any]:
  unit = "stills" if cfg.stage == "image" else "clips"
  seconds = window["seconds"]
  return {
    "step": step,
    "wall_time": time.time(),
    **{name: window[name] / window["steps"] for name in AVERAGED},
    "loss_by_t": [
      s / n if n else None
      for s, n in zip(window["loss_sum"], window["loss_count"], strict=True)
    ],
    "lr": lr,
    f"{unit}_per_second": window["steps"] * cfg.batch_size / seconds,
    "data_wait_share": window["wait"] / seconds,
  }
