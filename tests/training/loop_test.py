# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from lumiere_jax.checkpoint import Checkpointer
from lumiere_jax.errors import UserError
from lumiere_jax.training.log import Logger
from lumiere_jax.training.loop import NonFiniteError, train

CLOCK = ("wall_time", "stills_per_second", "data_wait_share")


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

  before = signal.getsignal(number)
  cfg = dataclasses.replace(toy.CFG, sample_every=1)
  seen = []
  state = toy.run(tmp_path, cfg, (interrupt,), seen)
  assert int(state.step) == 3  # the step under way is finished
  message = f"stopped by {number.name} after step 3 of 6"
  assert message in capsys.readouterr().out
  assert signal.getsignal(number) is before

  state = toy.run(tmp_path, seen=seen)
  assert_same_bits(jax.device_get(state), straight[0])
  assert (lines(tmp_path), seen) == straight[1:]


@pytest.fixture
def interruptible():
  """Ctrl-C as in a terminal: shells start background jobs deaf to it."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_second_interrupt_ends_at_once(toy, tmp_path):
  def interrupt(_, step):
    if step >= 2:
      os.kill(os.getpid(), signal.SIGINT)

  cfg = dataclasses.replace(toy.CFG, sample_every=1)
  with pytest.raises(KeyboardInterrupt):
    toy.run(tmp_path, cfg, (interrupt,))
  assert [row["step"] for row in lines(tmp_path)] == [2]


def test_run_killed_between_checkpoints_repeats_its_steps(
  toy, straight, tmp_path
):
  script = Path(toy.__file__)
  result = subprocess.run(
    [sys.executable, script, str(tmp_path), "6", "5"],
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

  def __init__(self, losses, grad_norms=(1.0,) * 6):
    self.losses, self.grad_norms = losses, grad_norms
    self.calls = []

  def __next__(self):
    step = sum(call[0] == "fetch" for call in self.calls) + 1
    if step > len(self.losses):
      raise StopIteration
    self.calls.append(("fetch", step))
    return {"step": step}

  def get_state(self):
    return {}

  def set_state(self, state):
    raise AssertionError("not in this test")

  def step_fn(self, state, batch):
    self.calls.append(("dispatch", batch["step"]))
    i = batch["step"] - 1
    metrics = {"loss": self.losses[i], "grad_norm": self.grad_norms[i]}
    return state.replace(step=state.step + 1), metrics


@pytest.fixture
def fake_train(toy, monkeypatch):
  """(losses, cfg) -> calls, in the order they were made."""
  tx_state = toy.init_state({}, {}, toy.make_optimizer(toy.CFG)[0])

  def run(fakes, cfg):
    def note(name, step):
      fakes.calls.append((name, step))

    for cls, name, fake in (
      (Checkpointer, "__init__", lambda self: None),
      (Checkpointer, "save", lambda self, step, *_: note("save", step)),
      (Checkpointer, "wait", lambda self: None),
      (Logger, "start", lambda self, step: None),
      (Logger, "add", lambda self, step, *_: note("read", step)),
    ):
      monkeypatch.setattr(cls, name, fake)
    logger = Logger("unused", cfg)
    hooks = (lambda _, step: note("hook", step),)
    train(tx_state, fakes.step_fn, fakes, Checkpointer(), logger, cfg, hooks)

  return run


def test_order_of_a_turn(toy, fake_train):
  fakes = Fakes([1.0] * 4)
  cfg = dataclasses.replace(
    toy.CFG, steps=4, checkpoint_every=3, sample_every=3
  )
  fake_train(fakes, cfg)
  assert fakes.calls == [
    ("fetch", 1),
    ("dispatch", 1),
    ("fetch", 2),
    ("dispatch", 2),
    ("read", 1),
    ("fetch", 3),
    ("dispatch", 3),
    ("read", 2),
    ("read", 3),  # a checkpoint's metrics are written before it is
    ("hook", 3),
    ("save", 3),
    ("fetch", 4),
    ("dispatch", 4),
    ("read", 4),
    ("save", 4),
  ]


def test_non_finite_loss_stops_with_its_step(toy, fake_train):
  fakes = Fakes([1.0, 1.0, 1.0, 1.0, float("nan"), 1.0])
  with pytest.raises(NonFiniteError, match="loss=nan at step 5"):
    fake_train(fakes, toy.CFG)
  assert [call for call in fakes.calls if call[0] == "save"] == [("save", 3)]


def test_no_checkpoint_of_parameters_that_a_gradient_spoilt(toy, fake_train):
  fakes = Fakes([1.0] * 4, (1.0, 1.0, float("inf"), 1.0))
  with pytest.raises(NonFiniteError, match="grad_norm=inf at step 3"):
    fake_train(fakes, toy.CFG)
  assert not any(name == "save" for name, _ in fakes.calls)


def test_end_of_data_is_the_users_mistake(toy, fake_train):
  with pytest.raises(UserError, match="data ended after step 2"):
    fake_train(Fakes([1.0, 1.0]), toy.CFG)
