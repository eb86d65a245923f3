# SPDX-License-Identifier: Apache-2.0
"""Metrics of a run: JSONL, TensorBoard and a progress bar."""

import collections
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lumiere_jax.config import TrainConfig
from lumiere_jax.errors import UserError
from lumiere_jax.training.phases import Phases

AVERAGED = ("loss", "grad_norm", "update_norm", "param_norm")


class Logger:
  """Averages metrics over `cfg.log_every` steps and writes them.

  Its state is saved in the checkpoint: the averages of a run that is resumed
  are those of one that was never interrupted.

  Args:
    workdir: gets metrics.jsonl and tensorboard/.
    cfg: the recipe.
    phases: where the time goes; told in each line.
    writes: whether this process writes; of several, one does.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    cfg: TrainConfig,
    phases: Phases | None = None,
    *,
    writes: bool = True,
  ):
    self._workdir = Path(workdir)
    self._cfg = cfg
    self._phases = phases or Phases()
    self._writes = writes
    self._window = _empty_window()
    self._last: collections.deque[dict[str, Any]] = collections.deque(maxlen=50)
    self._since_save = [0.0, 0]  # Sum of losses, and how many.
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
    self._bar = tqdm(
      total=self._cfg.steps,
      initial=step,
      unit="step",
      disable=None if self._writes else True,
    )
    self.restart_clock()
    if not self._writes:
      return
    self._workdir.mkdir(parents=True, exist_ok=True)
    path = self._workdir / "metrics.jsonl"
    truncate_after(path, step)
    self._file = path.open("a")
    self._board = _open_board(self._workdir / "tensorboard", step)

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
    self._last.append(
      {"step": step, **{n: _finite(metrics[n]) for n in (*AVERAGED, "lr")}}
    )
    if metrics["taken"]:
      window["taken"] += 1
      for name in AVERAGED:
        window[name] += float(metrics[name])
      for name in ("loss_sum", "loss_count"):
        window[name] = _add(window[name], metrics[name])
      self._since_save[0] += float(metrics["loss"])
      self._since_save[1] += 1
    else:
      self.say(
        f"step {step} skipped: loss {float(metrics['loss']):.4g}, gradient "
        f"norm {float(metrics['grad_norm']):.4g}"
      )
    self._mark = now
    self._bar.update()
    if step % self._cfg.log_every == 0:
      line = _line(step, window, metrics, self._cfg)
      with self._told():
        self._write(step, {**line, "seconds": self._phases.seconds})
      self._window = _empty_window()

  def add_evaluation(self, step: int, values: Mapping[str, float]) -> None:
    """Writes what evaluators have measured as a line of its own.

    What is not finite is told as it is, but null in the file: JSON has no
    number for it.

    Args:
      step: optimizer steps done.
      values: by name.
    """
    if not self._writes:
      return
    finite = {name: _finite(value) for name, value in values.items()}
    line = {"step": step, "wall_time": time.time(), "eval": finite}
    with self._told():
      self._file.write(json.dumps(line) + "\n")
      self._file.flush()
      self._show({f"eval/{name}": v for name, v in finite.items()}, step)
    told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    self.say(f"step {step}/{self._cfg.steps} eval: {told}")

  def loss_since_save(self) -> float | None:
    """Mean loss since the call before; None if no step was taken."""
    total, count = self._since_save
    self._since_save = [0.0, 0]
    return total / count if count else None

  def say(self, text: str) -> None:
    """Prints one line without breaking the progress bar."""
    if self._writes:
      tqdm.write(text)

  def warn(self, text: str) -> None:
    """Says on stderr, of any process, what went wrong in it."""
    tqdm.write(text, file=sys.stderr)

  def report(self, reason: str) -> Path:
    """Writes why a run ended, and its last steps, to incident.json."""
    path = self._workdir / "incident.json"
    if self._writes:
      text = json.dumps({"reason": reason, "last_steps": list(self._last)})
      path.write_text(text + "\n")
    return path

  def close(self) -> None:
    """Closes the files."""
    if self._bar is not None:
      self._bar.close()
    if self._file is not None:
      # On a full disk there is an error to tell already.
      with contextlib.suppress(OSError):
        self._file.close()
    if self._board is not None:
      with contextlib.suppress(OSError):
        self._board.close()

  @contextlib.contextmanager
  def _told(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise UserError(
        f"cannot write metrics in {self._workdir}: {error}"
      ) from error

  def _show(self, scalars: Mapping[str, float | None], step: int) -> None:
    """Writes to TensorBoard what has a value."""
    if self._board is None:
      return
    for name, value in scalars.items():
      if value is not None:
        self._board.add_scalar(name, value, step)

  def _write(self, step: int, line: dict[str, Any]) -> None:
    if not self._writes:
      return
    self._file.write(json.dumps(line) + "\n")
    self._file.flush()
    scalars = {}
    for name, value in line.items():
      if name == "loss_by_t":
        scalars |= {f"loss_by_t/{i}": v for i, v in enumerate(value)}
      elif name == "seconds":
        scalars |= {f"seconds/{phase}": v for phase, v in value.items()}
      elif name not in ("step", "wall_time"):
        scalars[name] = value
    self._show(scalars, step)
    loss = "none" if line["loss"] is None else f"{line['loss']:.4f}"
    if self._bar.disable:
      self.say(f"step {step}/{self._cfg.steps} loss {loss}")
    else:
      self._bar.set_postfix(loss=loss)


def _open_board(folder: Path, step: int) -> Any:
  """TensorBoard's writer, for a run that goes on after a step.

  None where tensorboardX is not installed: metrics.jsonl has all of it.
  """
  # Slow to import, and of use only here.
  try:
    from tensorboardX import SummaryWriter
  except ImportError:
    return None
  return SummaryWriter(str(folder), purge_step=step + 1)


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
  sums = dict.fromkeys(("steps", "taken", "seconds", "wait", *AVERAGED), 0)
  return {**sums, "loss_sum": [], "loss_count": []}


def _add(total: list[float], value: Any) -> list[float]:
  value = np.asarray(value, np.float64)
  return (value + total if total else value).tolist()


def _finite(value: Any) -> float | None:
  """The number, or None where JSON has none for it."""
  return float(value) if np.isfinite(value) else None


def _line(
  step: int,
  window: Mapping[str, Any],
  metrics: Mapping[str, Any],
  cfg: TrainConfig,
) -> dict[str, Any]:
  unit = "stills" if cfg.stage == "image" else "clips"
  seconds = window["seconds"]
  return {
    "step": step,
    "wall_time": time.time(),
    **{
      name: _finite(window[name] / window["taken"]) if window["taken"] else None
      for name in AVERAGED
    },
    "loss_by_t": [
      s / n if n else None
      for s, n in zip(window["loss_sum"], window["loss_count"], strict=True)
    ],
    "lr": float(metrics["lr"]),
    "skipped": int(metrics["skipped"]),
    f"{unit}_per_second": window["steps"] * cfg.batch_size / seconds,
    "data_wait_share": window["wait"] / seconds,
  }
