# SPDX-License-Identifier: Apache-2.0
"""The train loop."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax

from lumiere_jax.checkpoint import Checkpointer, Stateful
from lumiere_jax.config import TrainConfig
from lumiere_jax.errors import UserError
from lumiere_jax.training.log import Logger
from lumiere_jax.training.state import TrainState
from lumiere_jax.training.step import Batch, Metrics

Hook = Callable[[TrainState, int], None]
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Batches(Stateful, Protocol):
  """An iterator over batches of numpy arrays that knows its position."""

  def __next__(self) -> Batch: ...


class NonFiniteError(UserError, RuntimeError):
  """Loss or gradient became infinite or NaN."""


def train(
  state: TrainState,
  step_fn: StepFn,
  batches: Batches,
  checkpointer: Checkpointer,
  logger: Logger,
  cfg: TrainConfig,
  hooks: Sequence[Hook] = (),
) -> TrainState:
  """Trains until `cfg.steps`, or until SIGTERM or SIGINT; returns the state.

  A state of fewer steps than `cfg.steps` means that a signal came.

  The order of one turn is evaluate, save, fetch, dispatch, read the metrics of
  the step before. Saving comes before fetching, so that the saved position in
  the data is that of the saved weights. Fetching comes while the device still
  works on the step before, and reading metrics after it has its next step: the
  device never waits for the host, unless data are slow. A signal ends the turn,
  saves, and returns early.

  Args:
    state: donated; new, or from `checkpointer.restore`.
    step_fn: the train step.
    batches: a batch for each step; grain's iterators are such.
    checkpointer: saves every `cfg.checkpoint_every` steps and at the end.
    logger: takes the metrics.
    cfg: the recipe.
    hooks: called as hook(state, step) every `cfg.sample_every` steps.

  Raises:
    NonFiniteError: loss or gradient norm is not finite; the message has the
      step, and no state it spoilt is saved.
    UserError: the data end before the run does.
  """
  step = start = int(state.step)
  hosts = {"data": batches, "log": logger}
  pending = None
  logger.start(step)
  with contextlib.ExitStack() as stack:
    stack.callback(logger.close)
    stack.callback(checkpointer.wait)
    stop = stack.enter_context(_stop_signals())
    while True:
      done = step >= cfg.steps or bool(stop)
      save = done or step % cfg.checkpoint_every == 0
      call = cfg.sample_every > 0 and step % cfg.sample_every == 0
      if step > start and (save or call):
        _read(logger, pending)
        pending = None
        if call:
          for hook in hooks:
            hook(state, step)
        if save:
          checkpointer.save(step, state, hosts)
        logger.restart_clock()
      if done:
        break
      began = time.perf_counter()
      batch = _fetch(batches, step)
      wait = time.perf_counter() - began
      state, metrics = step_fn(state, batch)
      step += 1
      last, pending = pending, (step, metrics, wait)
      _read(logger, last)
    checkpointer.wait()
    if step < cfg.steps:
      logger.say(
        f"stopped by {stop[0]} after step {step} of {cfg.steps}; the same "
        "command goes on from there"
      )
  return state


def _read(logger: Logger, pending: tuple[int, Any, float] | None) -> None:
  """Waits for a step's metrics, checks them and hands them to the logger."""
  if pending is None:
    return
  step, metrics, wait = pending
  metrics = jax.device_get(metrics)
  for name in ("loss", "grad_norm"):
    if not math.isfinite(metrics[name]):
      raise NonFiniteError(
        f"{name}={metrics[name]} at step {step}: training stopped. The newest "
        "checkpoint is from before; a lower train.learning_rate may help"
      )
  logger.add(step, metrics, wait)


def _fetch(batches: Batches, step: int) -> Batch:
  try:
    return next(batches)
  except StopIteration:
    raise UserError(f"the data ended after step {step}") from None


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[str]]:
  """Yields a list that gets the name of the first SIGTERM or SIGINT.

  A second signal does what it did before: Ctrl-C twice ends at once.
  """
  names: list[str] = []
  before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

  def restore() -> None:
    for number, handler in before.items():
      signal.signal(number, handler)

  def note(number: int, _: Any) -> None:
    names.append(signal.Signals(number).name)
    restore()

  for number in before:
    signal.signal(number, note)
  try:
    yield names
  finally:
    restore()
