# SPDX-License-Identifier: Apache-2.0
"""A run's power-function averages on disk, to be combined when it is over.

WORKDIR/averages/STEP/snapshot.json     when, and of which lengths
WORKDIR/averages/STEP/model-...         "LENGTH/a/b/c" of what trains, float16
"""

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError

from lumiere_jax import sharding, trees
from lumiere_jax.config import TrainConfig
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree
from lumiere_jax.training.averages import PowerAverages
from lumiere_jax.training.state import TrainState
from lumiere_jax.weights.lazy import open_safetensors
from lumiere_jax.weights.shards import new_folder, write_json, write_shards

_FOLDER, _ABOUT = "averages", "snapshot.json"


@dataclass(frozen=True)
class Snapshots:
  """Writes those of a run.

  Attributes:
    workdir: of the run.
    cfg: `posthoc_ema` and how often.
  """

  workdir: str | os.PathLike
  cfg: TrainConfig

  def due(self, step: int) -> bool:
    """Whether one is to be written after so many steps, or at the end."""
    if not self.cfg.posthoc_ema:
      return False
    return step % self.cfg.posthoc_every == 0 or step >= self.cfg.steps

  def start(self, step: int) -> None:
    """Removes those after `step`, of a run that goes on from there.

    Raises:
      UserError: they cannot be removed.
    """
    folder = Path(self.workdir) / _FOLDER
    if jax.process_index() or not folder.is_dir():
      return
    unfinished = folder.glob(".*/")
    later = (p for p in _numbered(folder) if int(p.name) > step)
    with _told(folder):
      for path in (*unfinished, *later):
        shutil.rmtree(path)

  def write(self, state: TrainState, step: int) -> None:
    """Writes the averages after `step` steps, whole or not at all.

    All processes gather them, and one writes.

    Raises:
      UserError: they cannot be written, or are too large for float16.
    """
    kept: PowerAverages = state.opt_state
    mine, leaves = jax.process_index() == 0, {}
    for length, tree in zip(self.cfg.posthoc_ema, kept.averages, strict=True):
      for path, leaf in trees.flatten(tree).items():
        whole = sharding.on_host(leaf)
        if mine:
          leaves[f"{length}/{path}"] = whole
    time = float(sharding.on_host(kept.time))
    if not mine or not time:
      return
    folder = Path(self.workdir) / _FOLDER
    target = folder / str(step)
    with _told(folder):
      if target.exists():  # Of a run that died after this step.
        shutil.rmtree(target)
      with new_folder(target) as new:
        write_shards(new, leaves, dtype="float16")
        lengths = list(self.cfg.posthoc_ema)
        write_json(new / _ABOUT, {"time": time, "lengths": lengths})


@dataclass(frozen=True)
class Snapshot:
  """Averages that were stored at one time.

  Attributes:
    path: their folder.
    step: of the run.
    time: steps taken until then, skipped ones not among them.
    lengths: of the averages.
  """

  path: Path
  step: int
  time: float
  lengths: tuple[float, ...]


def stored(workdir: str | os.PathLike) -> list[Snapshot]:
  """The snapshots of a run, in order.

  Raises:
    UserError: there are none, or one is damaged.
  """
  folder = Path(workdir) / _FOLDER
  paths = _numbered(folder)
  if not paths:
    raise UserError(
      f"no averages in {folder}: a run with train.posthoc_ema writes them"
    )
  found = []
  for path in paths:
    try:
      about = json.loads((path / _ABOUT).read_text())
      time, lengths = float(about["time"]), tuple(map(float, about["lengths"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise UserError(f"cannot read {path / _ABOUT}: {error!r}") from error
    found.append(Snapshot(path, int(path.name), time, lengths))
  return found


def combined(snapshots: Sequence[Snapshot], weights: np.ndarray) -> PyTree:
  """The weighted sum of stored averages, float32; reads one leaf at a time.

  Args:
    snapshots: where they are.
    weights: of each length of the first, then of the second, and so on.

  Raises:
    UserError: a file is missing or damaged, or holds other parameters.
  """
  with contextlib.ExitStack() as stack:
    parts = []
    for one in snapshots:
      tensors = stack.enter_context(open_safetensors(one.path))
      for length in one.lengths:
        prefix = f"{length}/"
        parts.append(
          {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
          }
        )
    difference = next((d for p in parts if (d := trees.diff(parts[0], p))), "")
    if difference:
      raise UserError(
        f"the averages in {snapshots[0].path.parent} are of different "
        f"parameters: {difference}"
      )
    return trees.unflatten(
      {
        name: sum(
          np.float32(weight) * np.asarray(part[name], np.float32)
          for weight, part in zip(weights, parts, strict=True)
        )
        for name in parts[0]
      }
    )


def _numbered(folder: Path) -> list[Path]:
  """The snapshots in a folder, by step."""
  paths = (path for path in folder.glob("*/") if path.name.isdigit())
  return sorted(paths, key=lambda path: int(path.name))


@contextlib.contextmanager
def _told(folder: Path):
  """Makes an error of the disk one line."""
  try:
    yield
  except (OSError, SafetensorError) as error:
    raise UserError(f"cannot write averages in {folder}: {error}") from error
