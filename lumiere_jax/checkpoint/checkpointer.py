# SPDX-License-Identifier: Apache-2.0
"""Saves and restores a run in a folder, with orbax."""

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from lumiere_jax.checkpoint import errors
from lumiere_jax.checkpoint.checksum import checksums
from lumiere_jax.config import Config, differences, overlay, to_dict
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree

# Changing these between two runs of one training changes no gradient beyond its
# rounding, only how long it runs (and so where its learning rate falls), where,
# what it prints and keeps.
MAY_CHANGE = (
  "name",
  "weights",
  "sampler",
  "mesh",
  "model.remat",
  "data.data_dir",
  "data.max_broken_share",
  "text.weights",  # A path, as the next two.
  "text.store",
  "text.cache_mb",
  "train.init_from",  # A path; whose weights lie there may not.
  "train.steps",
  "train.decay_steps",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep_checkpoints",
  "train.keep_every_hours",
  "train.keep_best",
  "train.max_skipped",
  "train.watchdog_seconds",
  "train.posthoc_every",
  "data.num_workers",
  "train.sample_every",
  "train.sample_prompts",
  "train.eval_every",
  "train.eval_clips",
  "train.weights_dtype",
)


@runtime_checkable
class Stateful(Protocol):
  """A host object whose state is saved beside the arrays; it fits in JSON.

  Iterators of grain are such.
  """

  def get_state(self) -> dict[str, Any]: ...

  def set_state(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Keep:
  """Which checkpoints outlive the next ones.

  Attributes:
    latest: so many of the newest.
    every_hours: one of so many hours; 0 none.
    best: so many of the least loss.
  """

  latest: int
  every_hours: float = 0.0
  best: int = 0

  def policy(self) -> ocp.checkpoint_managers.AnyPreservationPolicy:
    """The same in orbax's terms."""
    policies = ocp.checkpoint_managers
    chosen: list[Any] = [policies.LatestN(self.latest)]
    if self.every_hours:
      seconds = round(3600 * self.every_hours)
      chosen.append(policies.EveryNSeconds(seconds))
    if self.best:
      chosen.append(
        policies.BestN(
          get_metric_fn=lambda metrics: metrics["loss"],
          reverse=True,
          n=self.best,
          keep_checkpoints_without_metrics=False,
        )
      )
    return policies.AnyPreservationPolicy(chosen)


class Checkpointer:
  """Saves and restores a run in a folder.

  Args:
    directory: where checkpoints lie, one folder for each step.
    config: the run's configuration as a nested dict.
    fingerprint: identifies the data.
    keep: which are kept.
    allow_changes: restore in spite of another config or other data.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    config: Mapping[str, Any],
    fingerprint: str,
    *,
    keep: Keep,
    allow_changes: bool = False,
  ):
    errors.silence()
    self._directory = Path(directory).resolve()
    # As it will come back from disk: JSON knows no tuples.
    self._config = json.loads(json.dumps(config))
    self._fingerprint = fingerprint
    self._allow_changes = allow_changes
    with self._told("open the checkpoints"):
      self._directory.mkdir(parents=True, exist_ok=True)
      self._manager = ocp.CheckpointManager(
        self._directory,
        options=ocp.CheckpointManagerOptions(
          cleanup_tmp_directories=True,
          preservation_policy=keep.policy(),
          # The loop decides, whatever orbax hears of preemption.
          save_decision_policy=ocp.checkpoint_managers.FixedIntervalPolicy(1),
        ),
        item_names=("arrays", "host"),
      )

  def warm_up(self, state: PyTree) -> None:
    """Compiles what saving such arrays takes, so that a stop need not."""
    checksums(state)

  def save(
    self,
    step: int,
    state: PyTree,
    hosts: Mapping[str, Stateful],
    loss: float | None = None,
  ) -> None:
    """Saves a run after `step` steps; writing goes on in the background.

    Args:
      step: optimizer steps done.
      state: the arrays.
      hosts: named objects whose state belongs to the same moment.
      loss: of the steps since the last checkpoint, to know the best by.

    Raises:
      UserError: this one, or the one before, cannot be written.
    """
    host = {
      "config": self._config,
      "fingerprint": self._fingerprint,
      "states": {name: h.get_state() for name, h in hosts.items()},
      "checksums": checksums(state),
    }
    self.wait()  # What went wrong before is told of the one before.
    with self._told(f"save the checkpoint of step {step}"):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          arrays=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host)
        ),
        metrics=None if loss is None else {"loss": loss},
      )

  def restore(
    self,
    like: PyTree,
    hosts: Mapping[str, Stateful],
    *,
    latest: int | None = None,
  ) -> PyTree | None:
    """Returns the newest whole checkpoint's arrays and sets the hosts to it.

    One that is damaged is set aside, with a warning, for the one before it.

    Args:
      like: arrays, or `jax.ShapeDtypeStruct`s with shardings, whose structure,
        types and shardings the restored ones get.
      hosts: the named objects that were saved.
      latest: the newest that will do; those after it are removed, once one is
        found that does.

    Returns:
      The arrays, or None, and the hosts left alone, if there is no checkpoint.

    Raises:
      UserError: the checkpoint is of another config or of other data, or all
        are damaged.
    """
    like = jax.tree.map(_abstract, like)
    steps = sorted(self._manager.all_steps(), reverse=True)
    newer = [s for s in steps if latest is not None and s > latest]
    for step in steps[len(newer) :]:
      arrays, host, problem = self._read(step, like)
      if _on_all_processes(not problem):
        for name, saved in host["states"].items():
          if name in hosts:
            hosts[name].set_state(saved)
        for unwanted in newer:
          self._manager.delete(unwanted)
        return arrays
      del arrays
      self._set_aside(step, problem)
    if latest is None and self._damaged.is_dir():
      raise UserError(
        f"no checkpoint in {self._directory} is whole; they lie in "
        f"{self._damaged}: remove that to begin anew"
      )
    return None

  def wait(self) -> None:
    """Returns when everything saved is on disk.

    Raises:
      UserError: it cannot be.
    """
    with self._told("finish the last checkpoint"):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then frees the threads."""
    with self._told("finish the last checkpoint"):
      self._manager.close()

  @property
  def _damaged(self) -> Path:
    return self._directory.with_name(self._directory.name + ".damaged")

  def _read(
    self, step: int, like: PyTree
  ) -> tuple[PyTree, dict[str, Any], str]:
    """Arrays and host part of a checkpoint, and what is wrong with it, if so.

    Raises:
      UserError: it is of another config or of other data.
    """
    try:
      # The small part first: a foreign config would fail on the arrays' shapes.
      host = self._manager.restore(
        step, args=ocp.args.Composite(host=ocp.args.JsonRestore())
      )["host"]
      if not self._allow_changes:
        self._check_same(host)
      arrays = self._manager.restore(
        step,
        args=ocp.args.Composite(arrays=ocp.args.StandardRestore(like)),
      )["arrays"]
    except UserError:
      raise
    except Exception as error:  # Damage shows in whatever way.
      return None, {}, errors.first_line(error)
    found = checksums(arrays)
    wrong = [k for k, v in host["checksums"].items() if found.get(k) != v]
    problem = f"checksum of {', '.join(wrong[:4])}" if wrong else ""
    return arrays, host, problem

  def _set_aside(self, step: int, problem: str) -> None:
    """Moves a damaged checkpoint out of the way, with a warning."""
    if jax.process_index() == 0:
      warnings.warn(
        f"the checkpoint of step {step} is damaged "
        f"({problem or 'as another process sees it'}); it now lies in "
        f"{self._damaged}",
        stacklevel=3,
      )
      self._damaged.mkdir(exist_ok=True)
      aside = self._damaged / str(step)
      shutil.rmtree(aside, ignore_errors=True)
      (self._directory / str(step)).rename(aside)
    if jax.process_count() > 1:
      multihost_utils.sync_global_devices(f"set aside {step}")
    self._manager.reload()

  @contextlib.contextmanager
  def _told(self, what: str) -> Iterator[None]:
    """Makes an error of the disk, however it comes, one line."""
    try:
      yield
    except Exception as error:
      names = [path.name for path in self._directory.glob("[0-9]*")]
      newest = max((int(n) for n in names if n.isdigit()), default=None)
      left = (
        "there is none before"
        if newest is None
        else (f"the newest whole one is of step {newest}")
      )
      reason = errors.first_line(error)
      raise UserError(
        f"cannot {what} in {self._directory}: {reason}; {left}"
      ) from error

  def _check_same(self, host: Mapping[str, Any]) -> None:
    changes = [
      f"{name}={old!r}, now {new!r}"
      for name, old, new in differences(
        _completed(host["config"]), _completed(self._config)
      )
      if not _may_change(name)
    ]
    if host["fingerprint"] != self._fingerprint:
      changes.append(f"data {host['fingerprint']!r}, now {self._fingerprint!r}")
    if changes:
      raise UserError(
        f"the checkpoint in {self._directory} is of another run: "
        f"{'; '.join(changes)}. Undo the change, use another workdir, or allow "
        "it with --allow_changes"
      )


def _completed(config: Mapping[str, Any]) -> dict[str, Any]:
  """With its default for a field that came later than the config."""
  return overlay(json.loads(json.dumps(to_dict(Config()))), config)


def _may_change(name: str) -> bool:
  return any(name == f or name.startswith(f + ".") for f in MAY_CHANGE)


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


def _on_all_processes(good: bool) -> bool:
  """Whether it is so on all of them."""
  if jax.process_count() == 1:
    return good
  return bool(np.all(multihost_utils.process_allgather(np.array(good))))
