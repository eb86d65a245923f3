# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.checkpoint import Checkpointer
from lumiere_jax.errors import UserError
from lumiere_jax.training.guard import after, may_step
from lumiere_jax.training.log import Logger
from lumiere_jax.training.loop import DivergedError, Parts, train
from lumiere_jax.training.phases import Phases
from lumiere_jax.training.state import init_state
from tests.running import running

CLOCK = ("wall_time", "stills_per_second", "data_wait_share", "seconds")


def lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  return [{k: v for k, v in r.items() if k not in CLOCK} for r in rows]


def assert_same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def straight(toy, tmp_path_factory):
  """(last state, lines, examples seen) of six steps without a break."""
  workdir, seen = tmp_path_factory.mktemp("straight"), []
  state = toy.run(workdir, seen=seen)
  assert [row["step"] for row in lines(workdir)] == [2, 4, 6]
  assert len(seen) == 6
  return jax.device_get(state), lines(workdir), seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_and_the_same_command_goes_on(
  toy, straight, tmp_path, capsys, number
):
  def interrupt(_, step):
    if step == 2:
      os.kill(os.getpid(), number)
    return ()

  before = signal.getsignal(number)
  cfg = dataclasses.replace(toy.CFG, sample_every=1)
  seen = []
  state = toy.run(tmp_path, cfg, (interrupt,), seen)
  assert int(state.step) == 3  # all processes hear of it in the next step
  message = (
    rf"stopped by {number.name} after step 3 of 6, saved \d+\.\d s after"
  )
  assert re.search(message, capsys.readouterr().out)
  assert signal.getsignal(number) is before

  state = toy.run(tmp_path, seen=seen)
  assert_same_bits(jax.device_get(state), straight[0])
  assert (lines(tmp_path), seen) == straight[1:]


@pytest.mark.usefixtures("interruptible")
def test_second_interrupt_ends_at_once(toy, tmp_path):
  def interrupt(_, step):
    if step >= 2:
      os.kill(os.getpid(), signal.SIGINT)
    return ()

  cfg = dataclasses.replace(toy.CFG, sample_every=1)
  with pytest.raises(KeyboardInterrupt):
    toy.run(tmp_path, cfg, (interrupt,))
  assert [row["step"] for row in lines(tmp_path)] == [2]


STOPPING = """
import gc, time
from lumiere_jax import cli, interrupt
from lumiere_jax.training import loop

interrupt.GRACE = 0.5

def here(*_):
  print("here", flush=True)
  time.sleep(60)

def main(argv):
  with loop._stop_signals() as came:
    print("here", flush=True)
    while not came:
      pass
    time.sleep(1)  # It saves.
    gc.callbacks.append(here)  # As JAX does.
    gc.collect()
    gc.callbacks.clear()
    time.sleep(60)

cli.run(main)
"""


@pytest.mark.usefixtures("interruptible")
def test_second_interrupt_is_not_lost():
  """The first has the time it needs, and the next ends what comes after it."""
  with running(
    [sys.executable, "-c", STOPPING],
    env=os.environ | {"PYTHONPATH": os.getcwd()},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    for _ in range(2):
      assert process.stdout.readline() == "here\n"
      time.sleep(0.2)  # It goes on from there.
      process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
  assert (process.returncode, errors) == (130, "interrupted\n")


def test_run_killed_between_checkpoints_repeats_its_steps(
  toy, straight, tmp_path
):
  script = Path(toy.__file__)
  result = subprocess.run(
    [sys.executable, script, str(tmp_path), "6", "--kill_at=5"],
    cwd=script.parents[2],
    env=os.environ | {"PYTHONPATH": str(script.parents[2])},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert result.returncode == -signal.SIGKILL, result.stderr
  assert [row["step"] for row in lines(tmp_path)] == [2, 4]

  seen = []
  state = toy.run(tmp_path, seen=seen)
  assert_same_bits(jax.device_get(state), straight[0])
  assert lines(tmp_path) == straight[1]
  assert seen == straight[2][3:]  # on from the checkpoint of step 3


def test_finished_run_is_left_alone(toy, straight, tmp_path):
  toy.run(tmp_path)
  seen = []
  assert_same_bits(jax.device_get(toy.run(tmp_path, seen=seen)), straight[0])
  assert seen == []
  assert lines(tmp_path) == straight[1]


class Fakes:
  """A run without arrays: notes in which order the loop calls its parts."""

  def __init__(self, steps):
    self.steps = steps
    self.calls = []

  def __next__(self):
    step = sum(call[0] == "fetch" for call in self.calls) + 1
    if step > self.steps:
      raise StopIteration
    self.calls.append(("fetch", step))
    return {"step": step}

  def get_state(self):
    return {}

  def set_state(self, state):
    raise AssertionError("not in this test")

  def step_fn(self, state, batch, vote):
    self.calls.append(("dispatch", batch["step"]))
    metrics = {"loss": 1.0, "grad_norm": 1.0, "vote": vote, "in_a_row": 0}
    return state.replace(step=state.step + 1), metrics


@pytest.fixture
def fake_train(toy, monkeypatch):
  """(losses, cfg) -> calls, in the order they were made."""
  tx_state = init_state({}, {}, toy.make_optimizer(toy.CFG)[0])

  def run(fakes, cfg):
    def note(name, step):
      fakes.calls.append((name, step))

    for cls, name, fake in (
      (Checkpointer, "__init__", lambda self: None),
      (Checkpointer, "save", lambda self, step, *_: note("save", step)),
      (Checkpointer, "warm_up", lambda self, s: note("warm up", int(s.step))),
      (Checkpointer, "wait", lambda self: None),
      (Logger, "start", lambda self, step: None),
      (Logger, "close", lambda self: None),
      (Logger, "loss_since_save", lambda self: None),
      (Logger, "add", lambda self, step, *_: note("read", step)),
    ):
      monkeypatch.setattr(cls, name, fake)
    logger = Logger("unused", cfg)

    def evaluate(_, step):
      note("evaluate", step)
      return ()

    called = [(cfg.sample_every, evaluate)] if cfg.sample_every else []
    made = Checkpointer(), logger, Phases(), called
    train(tx_state, Parts(fakes.step_fn, fakes, *made), cfg)

  return run


def test_order_of_a_turn(toy, fake_train):
  fakes = Fakes(4)
  cfg = dataclasses.replace(
    toy.CFG, steps=4, checkpoint_every=3, sample_every=3
  )
  fake_train(fakes, cfg)
  assert fakes.calls == [
    ("fetch", 1),
    ("dispatch", 1),
    ("warm up", 1),
    ("fetch", 2),
    ("dispatch", 2),
    ("read", 1),
    ("fetch", 3),
    ("dispatch", 3),
    ("read", 2),
    ("read", 3),  # a checkpoint's metrics are written before it is
    ("evaluate", 3),
    ("save", 3),
    ("fetch", 4),
    ("dispatch", 4),
    ("read", 4),
    ("save", 4),
  ]


def spoilt(toy, *steps, **train):
  """A run with checkpoints at 2, 4, ..., whose batches of these steps are."""
  recipe = dict(checkpoint_every=2, log_every=1, max_skipped=3) | train
  cfg = dataclasses.replace(toy.CFG, **recipe)
  return lambda workdir, **more: toy.run(workdir, cfg, spoilt=steps, **more)


def test_a_step_that_is_not_finite_is_skipped_and_counted(
  toy, tmp_path, capsys
):
  state = jax.device_get(spoilt(toy, 3, 4)(tmp_path))
  assert (state.step, state.guard.skipped, state.guard.in_a_row) == (6, 2, 0)
  assert "step 3 skipped: loss nan" in capsys.readouterr().out
  rows = lines(tmp_path)
  assert [row["loss"] is None for row in rows] == [
    False, False, True, True, False, False
  ]  # fmt: skip
  assert [row["skipped"] for row in rows] == [0, 0, 1, 2, 2, 2]
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_a_skipped_step_changes_nothing_but_counts(toy, tmp_path):
  cfg = dataclasses.replace(toy.CFG, steps=3)
  before = jax.device_get(toy.run(tmp_path, cfg))
  cfg = dataclasses.replace(toy.CFG, steps=5)
  after = jax.device_get(toy.run(tmp_path, cfg, spoilt=(4, 5)))
  assert (after.step, after.guard.skipped) == (5, 2)
  for part in ("params", "ema"):
    assert_same_bits(getattr(after, part), getattr(before, part))
  moments = [s.opt_state[1][0] for s in (before, after)]
  assert_same_bits(moments[0].mu, moments[1].mu)
  assert_same_bits(moments[0].nu, moments[1].nu)


def test_too_many_in_a_row_lead_back_once_and_on_with_other_data(
  toy, tmp_path, capsys
):
  seen = []
  state = jax.device_get(spoilt(toy, 3, 4, 5, 6)(tmp_path, seen=seen))
  assert (state.step, state.guard.rollbacks, state.guard.skipped) == (6, 1, 0)
  assert "going on from step 2 with others" in capsys.readouterr().out
  assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]
  first, again = seen[2:4], seen[-4:-2]
  assert first != again
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_the_second_time_a_run_ends_with_a_report(toy, tmp_path, monkeypatch):
  monkeypatch.setattr(toy.Data, "reorder", lambda self: None)
  with pytest.raises(DivergedError, match=r"3 steps in a row .*incident.json"):
    spoilt(toy, 3, 4, 5, 6)(tmp_path)
  report = json.loads((tmp_path / "incident.json").read_text())
  assert "again after a return" in report["reason"]
  assert [row["step"] for row in report["last_steps"]][-3:] == [3, 4, 5]
  assert [row["loss"] for row in report["last_steps"]][-3:] == [None] * 3
  assert DivergedError.status == 3


def test_without_a_checkpoint_before_it_ends_at_once(toy, tmp_path):
  with pytest.raises(DivergedError, match="with no checkpoint before"):
    spoilt(toy, 1, 2, 3)(tmp_path)


def test_skipped_steps_push_no_checkpoint_out(toy, tmp_path, monkeypatch):
  """As many as would fill all places, and none is good again."""
  monkeypatch.setattr(toy.Data, "reorder", lambda self: None)
  with pytest.raises(DivergedError, match="again after a return"):
    spoilt(toy, *range(3, 12), steps=12, max_skipped=8)(tmp_path)
  saved = [p.name for p in (tmp_path / "checkpoints").iterdir()]
  assert "2" in saved


def test_a_spike_of_the_gradient_is_skipped(toy):
  cfg = dataclasses.replace(toy.CFG, skip_grad_norm=4.0)
  guard, norms = toy.make(cfg).state.guard, [1.0, 3.0] * 15

  def may(guard, norm, cfg=cfg, step=30):
    one, norm = jnp.float32(1), jnp.float32(norm)
    return bool(may_step(guard, jnp.int32(step), one, norm, cfg))

  for step, norm in enumerate(norms):
    assert may(guard, norm, step=step)
    taken = jnp.asarray(True)
    guard = after(guard, jnp.int32(step), taken, jnp.float32(norm))
  assert 1.9 < guard.grad_norm < 2.1
  assert not may(guard, 8.5)
  assert may(guard, 7.5)
  assert may(guard, 99, cfg=toy.CFG)
  assert may(guard.replace(skipped=guard.skipped + 15), 99)  # too young


def test_end_of_data_is_the_users_mistake(toy, fake_train):
  with pytest.raises(UserError, match="data ended after step 2"):
    fake_train(Fakes(2), toy.CFG)
