# SPDX-License-Identifier: Apache-2.0
"""The train loop."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from lumiere_jax.checkpoint import Checkpointer, Stateful
from lumiere_jax.config import TrainConfig
from lumiere_jax.errors import DIVERGED, UserError
from lumiere_jax.shapes import PyTree
from lumiere_jax.training.guard import Vote
from lumiere_jax.training.log import Logger
from lumiere_jax.training.phases import Phases
from lumiere_jax.training.snapshots import Snapshots
from lumiere_jax.training.state import TrainState, full_ema
from lumiere_jax.training.step import Batch, Metrics

# (all averaged parameters, optimizer steps done) -> (name, value) pairs. It is
# called on all processes at once, reads what it wants by itself and keeps no
# parameters: the next step takes their memory. What goes wrong in one process
# must not keep it from the programs that the others run.
Evaluator = Callable[[PyTree, int], Iterable[tuple[str, float]]]
StepFn = Callable[[TrainState, Batch, Vote], tuple[TrainState, Metrics]]


class Batches(Stateful, Protocol):
  """An iterator over batches of numpy arrays that knows its position."""

  def __next__(self) -> Batch: ...

  def reorder(self) -> None:
    """Goes on with other examples than it would have."""
    ...


class DivergedError(UserError, RuntimeError):
  """Losses or gradients went on being unusable."""

  status = DIVERGED


class Parts(NamedTuple):
  """What a run is made of, beside its state.

  Attributes:
    step: the train step.
    batches: a batch for each step.
    checkpointer: saves every `cfg.checkpoint_every` steps and at the end.
    logger: takes the metrics.
    phases: where the time goes.
    evaluators: each with the number of steps after which it is called, again
      and again. Their values are logged; one that raises UserError is told of,
      and training goes on.
    snapshots: of the averages that are combined after the run.
  """

  step: StepFn
  batches: Batches
  checkpointer: Checkpointer
  logger: Logger
  phases: Phases
  evaluators: Sequence[tuple[int, Evaluator]] = ()
  snapshots: Snapshots | None = None

  @property
  def hosts(self) -> dict[str, Stateful]:
    """What is saved beside the state."""
    return {"data": self.batches, "log": self.logger, "time": self.phases}

  def start(self, step: int) -> None:
    """Begins to write of a run that goes on after `step` steps."""
    if self.snapshots:
      self.snapshots.start(step)
    self.logger.start(step)


def train(state: TrainState, parts: Parts, cfg: TrainConfig) -> TrainState:
  """Trains until `cfg.steps`, or until SIGTERM or SIGINT; returns the state.

  A state of fewer steps than `cfg.steps` means that a signal came, to this
  process or another: all end at the same step.

  The order of one turn is evaluate, store averages, save, fetch, dispatch, read
  the metrics of the step before. Saving comes before fetching, so that the
  saved position in the data is that of the saved weights. Fetching comes while
  the device still works on the step before, and reading metrics after it has
  its next step: the device never waits for the host, unless data are slow. A
  signal reaches the others in the next step, whose metrics say so to all; then
  all save.

  Args:
    state: donated; new, or from a checkpoint.
    parts: of the run.
    cfg: the recipe.

  Raises:
    DivergedError: `cfg.max_skipped` steps in a row were skipped, again after
      one return to the checkpoint before them; no state they spoilt is saved.
    UserError: there are no more data, here or in another process, or a
      checkpoint cannot be written.
  """
  run = _Run(state, parts, cfg)
  with contextlib.ExitStack() as stack:
    stack.enter_context(parts.phases.watch())
    parts.start(run.step)
    stack.callback(parts.logger.close)
    run.signals = stack.enter_context(_stop_signals())
    with _finishing(parts.checkpointer):
      run.until_done()
    parts.phases.settle()
    if run.step < cfg.steps:
      by, when = "another process", ""
      if run.signals:
        by, came = run.signals[0]
        when = f", saved {time.monotonic() - came:.1f} s after it"
      parts.logger.say(
        f"stopped by {by} after step {run.step} of {cfg.steps}{when}; the same "
        "command goes on from there"
      )
  return run.state


class _Pending(NamedTuple):
  """A step whose metrics are not read yet."""

  step: int
  metrics: Metrics
  wait: float


class _Run:
  """The state of the loop."""

  def __init__(self, state: TrainState, parts: Parts, cfg: TrainConfig):
    self.state, self._parts, self._cfg = state, parts, cfg
    self.step = self._start = self._evaluated = int(state.step)
    self.signals: list[tuple[str, float]] = []
    self._stop = False
    self._skipping = False  # The last step was not taken.
    self._pending: _Pending | None = None
    self._batch: Batch | None = None
    self._failure: Exception | None = None

  def until_done(self) -> None:
    """Turns until the end."""
    cfg, phases = self._cfg, self._parts.phases
    while True:
      due = self.step % cfg.checkpoint_every == 0
      measure = bool(self._due()) or self._snapshot_due()
      if self._stop or due or measure or self.step >= cfg.steps:
        self._read_all()
        done = self._stop or self.step >= cfg.steps
        if self.step > self._start:
          # Steps that were skipped push no good checkpoint out.
          self._evaluate()
          self._snapshot()
          self._save(done or (due and not self._skipping))
        if done:
          return
      first = self._batch is None
      wait, vote = self._fetch()
      with phases.phase("compile" if first else "step"):
        self._dispatch(wait, vote, block=first)

  def _fetch(self) -> tuple[float, Vote]:
    """Gets the next batch: seconds that it took, and what to tell others."""
    began = time.perf_counter()
    vote = Vote.STOP if self.signals else Vote.GO
    try:
      with self._parts.phases.phase("data"):
        self._batch = next(self._parts.batches)
    except Exception as error:
      if isinstance(error, StopIteration):
        error = UserError(f"the data ended after step {self.step}")
      if self._batch is None:
        raise error from None
      # The others must not wait for this process: it takes part in the step
      # with the batch before, and the step does not count.
      self._failure, vote = error, Vote.FAILED
    return time.perf_counter() - began, vote

  def _dispatch(self, wait: float, vote: Vote, *, block: bool) -> None:
    self.state, metrics = self._parts.step(self.state, self._batch, vote)
    self.step += 1
    if block:  # So that compiling is not counted as training.
      jax.block_until_ready(metrics)
      self._parts.checkpointer.warm_up(self.state)
    last, self._pending = self._pending, _Pending(self.step, metrics, wait)
    self._read(last)

  def _read_all(self) -> None:
    with self._parts.phases.phase("step"):
      last, self._pending = self._pending, None
      self._read(last)

  def _read(self, pending: _Pending | None) -> None:
    """Waits for a step's metrics, hands them on and does what they ask for."""
    if pending is None:
      return
    metrics = jax.device_get(pending.metrics)
    self._parts.phases.beat(pending.step)
    vote = metrics.get("vote", Vote.GO)
    if vote == Vote.FAILED:
      raise self._failure or UserError(
        f"another process has no batch for step {pending.step}; it says why"
      )
    self._parts.logger.add(pending.step, metrics, pending.wait)
    self._stop |= bool(vote == Vote.STOP)
    in_a_row, most = metrics["in_a_row"], self._cfg.max_skipped
    self._skipping = bool(0 < in_a_row < most)
    if in_a_row >= most:
      self._roll_back(pending.step, metrics)

  def _roll_back(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Goes back to before the skipped steps, once, and on with other data."""
    first = step - int(metrics["in_a_row"])
    reason = (
      f"{int(metrics['in_a_row'])} steps in a row were skipped up to step "
      f"{step}: loss {float(metrics['loss']):.4g}, gradient norm "
      f"{float(metrics['grad_norm']):.4g}"
    )
    again, parts = int(metrics["rollbacks"]), self._parts
    state = None
    if not again:
      like, self.state = jax.tree.map(_struct, self.state), None
      parts.checkpointer.wait()
      state = parts.checkpointer.restore(like, parts.hosts, latest=first)
    if state is None:
      why = "again after a return" if again else "with no checkpoint before"
      path = parts.logger.report(f"{reason}, {why}")
      raise DivergedError(
        f"{reason}, {why}: training stopped, {path} has the last steps; a "
        "lower train.learning_rate may help"
      )
    guard = state.guard
    self.state = state.replace(
      guard=guard.replace(
        rollbacks=guard.rollbacks + 1, in_a_row=guard.in_a_row * 0
      )
    )
    self.step, self._pending = int(state.step), None
    self._evaluated = self.step  # As of a run that is resumed there.
    parts.batches.reorder()
    parts.logger.close()
    parts.start(self.step)
    parts.logger.say(f"{reason}; going on from step {self.step} with others")

  def _due(self) -> list[Evaluator]:
    """The evaluators to call at this step."""
    if self.step <= self._evaluated:
      return []
    evaluators = self._parts.evaluators
    return [one for every, one in evaluators if self.step % every == 0]

  def _evaluate(self) -> None:
    """Has the averaged parameters measured, and logs the values."""
    due, parts = self._due(), self._parts
    if not due:
      return
    self._evaluated = self.step
    with parts.phases.phase("eval"):
      params, values = full_ema(self.state), {}
      for evaluator in due:
        try:
          for name, value in evaluator(params, self.step):
            values[name] = float(value)
        except UserError as error:
          # Weeks of training are worth more than a number.
          parts.logger.warn(
            f"evaluation after step {self.step} failed, training goes on: "
            f"{error}"
          )
      if values:
        parts.logger.add_evaluation(self.step, values)

  def _snapshot_due(self) -> bool:
    snapshots = self._parts.snapshots
    return snapshots is not None and snapshots.due(self.step)

  def _snapshot(self) -> None:
    """Has the averages that are combined later stored."""
    parts = self._parts
    if not self._snapshot_due():
      return
    with parts.phases.phase("checkpoint"):
      try:
        parts.snapshots.write(self.state, self.step)
      except UserError as error:
        parts.logger.warn(
          f"no snapshot after step {self.step}, training goes on: {error}"
        )

  def _save(self, save: bool) -> None:
    parts = self._parts
    if save:
      with parts.phases.phase("checkpoint"):
        loss = parts.logger.loss_since_save()
        parts.checkpointer.save(self.step, self.state, parts.hosts, loss)
    parts.logger.restart_clock()


def _struct(x: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)


@contextlib.contextmanager
def _finishing(checkpointer: Checkpointer) -> Iterator[None]:
  """Has what was saved on disk at the end, whatever the end is."""
  try:
    yield
  except BaseException:
    with contextlib.suppress(UserError):  # The first error is the one to tell.
      checkpointer.wait()
    raise
  checkpointer.wait()


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[tuple[str, float]]]:
  """Yields a list that gets the first SIGTERM or SIGINT: its name and time.

  A second signal does what it did before: Ctrl-C twice ends at once.
  """
  came: list[tuple[str, float]] = []
  before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

  def restore() -> None:
    for number, handler in before.items():
      signal.signal(number, handler)

  def note(number: int, _: Any) -> None:
    came.append((signal.Signals(number).name, time.monotonic()))
    restore()

  for number in before:
    signal.signal(number, note)
  try:
    yield came
  finally:
    restore()
