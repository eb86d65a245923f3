# SPDX-License-Identifier: Apache-2.0
"""Evaluators in a run: what they get, and that they change nothing of it."""

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import trees
from lumiere_jax.errors import UserError

CLOCK = ("wall_time", "stills_per_second", "data_wait_share", "seconds")


def lines(workdir):
  """(lines of metrics, lines of evaluations), without what the clock says."""
  text = (workdir / "metrics.jsonl").read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  rows = [{k: v for k, v in r.items() if k not in CLOCK} for r in rows]
  return tuple([r for r in rows if ("eval" in r) == e] for e in (False, True))


def saved(workdir, step):
  """What a checkpoint holds beside arrays, but for times."""
  file = next((workdir / "checkpoints" / str(step) / "host").glob("metadata"))
  states = json.loads(file.read_text())["states"]
  log = {k: v for k, v in states["log"].items() if k not in ("seconds", "wait")}
  return states["data"], log


def assert_same_bits(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture
def cfg(toy):
  return dataclasses.replace(toy.CFG, sample_every=2)


def norm(params, step):
  """Draws from every generator that a careless one could share with a run."""
  noise = jax.random.normal(jax.random.key(0), ())
  np.random.seed(step)
  yield "norm", jnp.sqrt(sum(jnp.sum(x**2) for x in jax.tree.leaves(params)))
  yield "noise", noise


@pytest.fixture(scope="module")
def straight(toy, tmp_path_factory):
  """(workdir, last state, examples seen) of a run that nothing evaluates."""
  workdir, seen = tmp_path_factory.mktemp("straight"), []
  state = toy.run(workdir, seen=seen)
  return workdir, jax.device_get(state), seen


def test_a_run_is_the_same_with_evaluators_and_without(
  toy, cfg, straight, tmp_path, capsys
):
  seen = []
  state = toy.run(tmp_path, cfg, (norm,), seen)
  workdir, before, seen_before = straight
  assert_same_bits(jax.device_get(state), before)
  assert seen == seen_before
  metrics, evals = lines(tmp_path)
  assert metrics == lines(workdir)[0]
  assert saved(tmp_path, 6) == saved(workdir, 6)
  assert [row["step"] for row in evals] == [2, 4, 6]
  assert all(row["eval"].keys() == {"norm", "noise"} for row in evals)
  assert capsys.readouterr().out.count(" eval: norm ") == 3


def test_all_averaged_parameters_are_handed_over(toy, cfg, tmp_path):
  got = {}

  def keep(params, step):
    got[step] = jax.device_get(params)
    return ()

  state = toy.run(tmp_path, cfg, (keep, norm))
  assert_same_bits(got[6], jax.device_get(trees.merge(state.ema, state.frozen)))
  leaves = jax.tree.leaves(got[6])
  want = np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in leaves))
  assert lines(tmp_path)[1][-1]["eval"]["norm"] == pytest.approx(want, rel=1e-6)


def test_a_resumed_run_measures_the_same_once_each(toy, cfg, tmp_path):
  cfg = dataclasses.replace(cfg, sample_every=1)
  toy.run(tmp_path / "straight", cfg, (norm,))

  def interrupt(params, step):
    yield from norm(params, step)
    if step == 2:
      os.kill(os.getpid(), signal.SIGTERM)

  stopped = toy.run(tmp_path / "parts", cfg, (interrupt,))
  assert int(stopped.step) == 3
  toy.run(tmp_path / "parts", cfg, (norm,))
  assert lines(tmp_path / "parts") == lines(tmp_path / "straight")


def test_what_was_measured_after_the_last_checkpoint_is_not_told_twice(
  toy, cfg, tmp_path
):
  cfg = dataclasses.replace(cfg, sample_every=1)

  def fail(_, step):
    yield "step", step
    if step == 5:
      raise RuntimeError("a bug")

  with pytest.raises(RuntimeError, match="a bug"):
    toy.run(tmp_path, cfg, (fail,))
  toy.run(tmp_path, cfg, (norm,))
  told = [(row["step"], *row["eval"]) for row in lines(tmp_path)[1]]
  again = [(step, "norm", "noise") for step in (4, 5, 6)]
  assert told == [(1, "step"), (2, "step"), (3, "step"), *again]


def test_after_a_return_steps_are_measured_anew_and_told_once(toy, tmp_path):
  cfg = dataclasses.replace(
    toy.CFG, checkpoint_every=2, max_skipped=3, log_every=1, sample_every=1
  )
  toy.run(tmp_path, cfg, (norm,), spoilt=(3, 4, 5, 6))
  assert [row["step"] for row in lines(tmp_path)[1]] == [1, 2, 3, 4, 5, 6]


def test_one_that_fails_is_told_of_and_training_goes_on(
  toy, cfg, straight, tmp_path, capsys
):
  def fail(_, step):
    yield "before", step
    raise UserError("the disk is full")

  state = toy.run(tmp_path, cfg, (fail, norm))
  assert_same_bits(jax.device_get(state), straight[1])
  assert [set(row["eval"]) for row in lines(tmp_path)[1]] == [
    {"before", "norm", "noise"}
  ] * 3
  told = capsys.readouterr().err
  for step in (2, 4, 6):
    message = f"evaluation after step {step} failed, training goes on: the disk"
    assert told.count(message) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_other_errors_end_the_run(toy, cfg, tmp_path, error):
  def fail(_, step):
    raise error

  with pytest.raises(error):
    toy.run(tmp_path, cfg, (fail,))


def test_what_is_not_finite_is_told_and_stops_nothing(
  toy, cfg, straight, tmp_path, capsys
):
  def spoilt(*_):
    yield "nothing", np.nan
    yield "most", jnp.inf
    yield "some", 0.5

  state = toy.run(tmp_path, cfg, (spoilt,))
  assert_same_bits(jax.device_get(state), straight[1])
  assert "step 6/6 eval: nothing nan, most inf, some 0.5" in (
    capsys.readouterr().out
  )
  (*_, last) = lines(tmp_path)[1]
  assert last["eval"] == {"nothing": None, "most": None, "some": 0.5}
