# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: one atomic thing that holds all that must agree.

Arrays, position in the data, state of the log, config and fingerprint of the
data are written together and restored together, or not at all.
"""

import json
import logging
import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import orbax.checkpoint as ocp

from lumiere_jax.config import differences
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree

# Changing these between two runs of one training changes no gradient, only how
# long it runs (and so where its cosine ends), what it prints and keeps.
MAY_CHANGE = (
  "name",
  "weights",
  "sampler",
  "data.data_dir",
  "text.weights",  # A path, as the next two.
  "text.store",
  "train.init_from",  # A path; whose weights lie there may not.
  "train.steps",
  "train.log_every",
  "train.checkpoint_every",
  "train.keep_checkpoints",
  "train.sample_every",
  "train.sample_prompts",
  "train.weights_dtype",
)


@runtime_checkable
class Stateful(Protocol):
  """A host object whose state is saved beside the arrays; it fits in JSON.

  Iterators of grain are such.
  """

  def get_state(self) -> dict[str, Any]: ...

  def set_state(self, state: dict[str, Any]) -> None: ...


class Checkpointer:
  """Saves and restores a run in a folder.

  Args:
    directory: where checkpoints lie, one folder for each step.
    config: the run's configuration as a nested dict.
    fingerprint: identifies the data.
    keep: newest checkpoints that are kept.
    allow_changes: restore in spite of another config or other data.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    config: Mapping[str, Any],
    fingerprint: str,
    *,
    keep: int,
    allow_changes: bool = False,
  ):
    _silence_orbax()
    self._directory = os.path.abspath(directory)
    # As it will come back from disk: JSON knows no tuples.
    self._config = json.loads(json.dumps(config))
    self._fingerprint = fingerprint
    self._allow_changes = allow_changes
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
      item_names=("arrays", "host"),
    )

  def save(
    self, step: int, state: PyTree, hosts: Mapping[str, Stateful]
  ) -> None:
    """Saves a run after `step` steps; writing goes on in the background.

    Args:
      step: optimizer steps done.
      state: the arrays.
      hosts: named objects whose state belongs to the same moment.
    """
    host = {
      "config": self._config,
      "fingerprint": self._fingerprint,
      "states": {name: h.get_state() for name, h in hosts.items()},
    }
    self._manager.save(
      step,
      args=ocp.args.Composite(
        arrays=ocp.args.StandardSave(state), host=ocp.args.JsonSave(host)
      ),
    )

  def restore(self, state: PyTree, hosts: Mapping[str, Stateful]) -> PyTree:
    """Returns the newest checkpoint's arrays and sets the hosts back to it.

    Args:
      state: the arrays of a run that begins, whose structure, types and
        shardings the restored ones get. Returned as it is, and the hosts left
        alone, if there is no checkpoint.
      hosts: the named objects that were saved.

    Raises:
      UserError: the checkpoint is of another config or of other data.
    """
    step = self._manager.latest_step()
    if step is None:
      return state
    # The small part first: a foreign config would fail on the arrays' shapes.
    host = self._manager.restore(
      step, args=ocp.args.Composite(host=ocp.args.JsonRestore())
    )["host"]
    if not self._allow_changes:
      self._check_same(host)
    arrays = self._manager.restore(
      step,
      args=ocp.args.Composite(
        arrays=ocp.args.StandardRestore(
          jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        )
      ),
    )["arrays"]
    for name, saved in host["states"].items():
      hosts[name].set_state(saved)
    return arrays

  def wait(self) -> None:
    """Returns when everything saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits, then frees the threads."""
    self._manager.close()

  def _check_same(self, host: Mapping[str, Any]) -> None:
    changes = [
      f"{name}={old!r}, now {new!r}"
      for name, old, new in differences(host["config"], self._config)
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


def _may_change(name: str) -> bool:
  return any(name == f or name.startswith(f + ".") for f in MAY_CHANGE)


class _NotFromOrbax(logging.Filter):
  def filter(self, record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR or "orbax" not in record.pathname


def _silence_orbax() -> None:
  """Drops what orbax tells absl's logger below an error; others keep theirs."""
  logger = logging.getLogger("absl")
  if not any(isinstance(f, _NotFromOrbax) for f in logger.filters):
    logger.addFilter(_NotFromOrbax())
