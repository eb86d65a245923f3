# SPDX-License-Identifier: Apache-2.0
"""Power-function averages against sums over all steps, and their snapshots."""

import dataclasses
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate

from lumiere_jax import sharding, trees
from lumiere_jax.config import MeshConfig
from lumiere_jax.errors import UserError
from lumiere_jax.training import averages, snapshots
from lumiere_jax.training.averages import exponent, fit

LENGTHS = (0.05, 0.1)


def weights_of_steps(length, time, steps=None):
  """Of the parameters after steps 1, 2, ...: the profile between steps."""
  power = exponent(length) + 1
  edges = np.minimum(np.arange((steps or time) + 1), time)
  return np.diff((edges / time) ** power)


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.28])
def test_exponent_is_that_of_a_profile_of_the_length(length):
  gamma = exponent(length)

  def moment(n):
    return integrate.quad(lambda x: (gamma + 1) * x ** (gamma + n), 0, 1)[0]

  deviation = np.sqrt(moment(2) - moment(1) ** 2)
  np.testing.assert_allclose(deviation, length, rtol=1e-6)


def test_inner_products_are_integrals_over_both_profiles():
  t, gamma = np.array([300.0, 1000.0]), np.array([17.0, 6.0])

  def profile(x, i):
    return (gamma[i] + 1) * (x / t[i]) ** gamma[i] / t[i] * (x <= t[i])

  for i, j in ((0, 1), (1, 0), (0, 0), (1, 1)):
    shared = min(t[i], t[j])
    expected, _ = integrate.quad(
      lambda x, i=i, j=j: profile(x, i) * profile(x, j), 0, shared
    )
    got = averages._products(t[[i]], gamma[[i]], t[[j]], gamma[[j]])
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def walk():
  """Parameters after each of 640 steps, and what is kept of them on the way.

  Of a random walk that slows down, as training does.
  """
  rng = np.random.default_rng(0)
  moves = rng.normal(size=(640, 5)) / np.sqrt(1 + np.arange(640))[:, None]
  tx = averages.with_averages(optax.identity(), LENGTHS)
  params = {"kernel": jnp.zeros(5)}
  state, update = tx.init(params), jax.jit(tx.update)
  seen, kept = [], []
  for move in moves:
    grads = {"kernel": jnp.asarray(move, jnp.float32)}
    updates, state = update(grads, state, params)
    params = optax.apply_updates(params, updates)
    seen.append(np.asarray(params["kernel"], np.float64))
    kept.append([np.asarray(x["kernel"]) for x in state.averages])
  return np.array(seen), np.array(kept)


def test_averages_are_sums_over_all_steps(walk):
  seen, kept = walk
  for time in (1, 2, 3, 10, 640):
    for length, average in zip(LENGTHS, kept[time - 1], strict=True):
      expected = weights_of_steps(length, time) @ seen[:time]
      np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)


def test_updates_and_state_of_the_optimizer_stay_what_they_are():
  params = {"kernel": jnp.ones((2, 3))}
  adam = optax.adam(0.1)
  tx, state = averages.with_averages(adam, LENGTHS), adam.init(params)
  assert jax.tree.structure(tx.init(params).inner) == jax.tree.structure(state)
  grads = {"kernel": jnp.arange(6.0).reshape(2, 3)}
  updates, after = tx.update(grads, tx.init(params), params)
  expected, state = adam.update(grads, state, params)
  for got, want in ((updates, expected), (after.inner, state)):
    jax.tree.map(np.testing.assert_array_equal, got, want)
  new = optax.apply_updates(params, updates)
  for average in after.averages:  # After one step there is nothing else.
    np.testing.assert_array_equal(average["kernel"], new["kernel"])


def rebuilt(walk, every, length):
  """(what stored averages make of the last step, least squares, brute force).

  The second is the best that any weights of the stored averages can do.
  """
  seen, kept = walk
  times = np.arange(every, 641, every)
  pairs = [(float(t), x) for t in times for x in LENGTHS]
  found = fit(*zip(*pairs, strict=True), 640.0, length)
  assert found.weights.sum() == pytest.approx(1)
  stored = np.array([kept[t - 1] for t in times]).reshape(len(pairs), -1)
  profiles = np.array([weights_of_steps(x, int(t), 640) for t, x in pairs])
  target = weights_of_steps(length, 640)
  best, *_ = np.linalg.lstsq(profiles.T, target, rcond=None)
  best /= best.sum()
  error = np.linalg.norm(best @ profiles - target) / np.linalg.norm(target)
  assert found.error == pytest.approx(error, abs=5e-3)
  return found.weights @ stored, best @ profiles @ seen, target @ seen


@pytest.mark.parametrize("length", [0.06, 0.08, 0.15])
def test_rebuilt_averages_are_the_best_that_stored_ones_make(walk, length):
  spread = np.std(walk[0][-200:], axis=0).mean()
  errors = []
  for every in (160, 40, 10):
    made, best, exact = rebuilt(walk, every, length)
    np.testing.assert_allclose(made, best, atol=0.02 * spread)
    errors.append(np.abs(made - exact).max() / spread)
  assert errors[-1] < 0.01 and errors[-1] < errors[0]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_stored_length_is_found_again(length):
  found = fit([100.0, 100.0, 640.0, 640.0], LENGTHS * 2, 640.0, length)
  expected = [0, 0, length == LENGTHS[0], length == LENGTHS[1]]
  np.testing.assert_allclose(found.weights, expected, atol=1e-6)
  assert found.error < 1e-3


def recipe(toy, **fields):
  fields = dict(posthoc_ema=LENGTHS, posthoc_every=2) | fields
  return dataclasses.replace(toy.CFG, **fields)


@pytest.fixture(scope="module")
def straight(toy, tmp_path_factory):
  """(workdir, last state, parameters after each step) of seven steps."""
  workdir, seen = tmp_path_factory.mktemp("straight"), []

  def keep(params, step):
    seen.append(jax.device_get(params))
    return ()

  cfg = recipe(toy, steps=7, sample_every=1, ema_decay=0.0)
  state = toy.run(workdir, cfg, (keep,))
  return workdir, jax.device_get(state), seen


def test_a_run_stores_its_averages_every_so_many_steps_and_at_the_end(
  straight,
):
  workdir, state, seen = straight
  found = snapshots.stored(workdir)
  assert [(one.step, one.time) for one in found] == [
    (2, 2), (4, 4), (6, 6), (7, 7)
  ]  # fmt: skip
  kernels = np.array([x["temporal"]["kernel"] for x in seen], np.float64)
  for one in found:
    for i, length in enumerate(LENGTHS):
      tree = snapshots.combined([one], np.eye(2)[i])
      assert set(trees.flatten(tree)) == {"temporal/kernel", "temporal/bias"}
      weights = weights_of_steps(length, one.step)
      expected = np.tensordot(weights, kernels[: one.step], 1)
      np.testing.assert_allclose(
        tree["temporal"]["kernel"], expected, rtol=1e-3, atol=1e-4
      )
      if one.step == 7:  # In float16.
        np.testing.assert_allclose(
          tree["temporal"]["kernel"],
          state.opt_state.averages[i]["temporal"]["kernel"],
          rtol=2**-11,
        )


def test_a_resumed_run_averages_as_one_without_a_break(toy, straight, tmp_path):
  """Stopped after step 3; what a dead run wrote after it is not in use."""
  cfg = recipe(toy, steps=7, ema_decay=0.0)

  def interrupt(_, step):
    if step == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return ()

  one = dataclasses.replace(cfg, sample_every=1)
  assert int(toy.run(tmp_path, one, (interrupt,)).step) == 3
  for name in ("5", ".6.half"):
    (tmp_path / "averages" / name).mkdir()
  state = jax.device_get(toy.run(tmp_path, cfg))
  jax.tree.map(np.testing.assert_array_equal, state, straight[1])
  names = sorted(path.name for path in (tmp_path / "averages").iterdir())
  assert names == ["2", "4", "6", "7"]
  for path in (tmp_path / "averages").rglob("*.safetensors"):
    same = straight[0] / path.relative_to(tmp_path)
    assert path.read_bytes() == same.read_bytes()


def test_after_a_return_only_snapshots_of_what_stayed_are_in_use(toy, tmp_path):
  cfg = recipe(
    toy,
    posthoc_every=1,
    checkpoint_every=2,
    max_skipped=3,
    log_every=1,
    sample_every=1,
  )
  seen = []

  def look(_, step):
    names = (path.name for path in (tmp_path / "averages").glob("*"))
    seen.append((step, sorted(map(int, names))))
    return ()

  state = toy.run(tmp_path, cfg, (look,), spoilt=(3, 4, 5, 6))
  assert int(state.guard.rollbacks) == 1
  assert [step for step, _ in seen] == [1, 2, 3, 4, 3, 4, 5, 6]
  assert all(names == list(range(1, step)) for step, names in seen)
  found = snapshots.stored(tmp_path)
  assert [(x.step, x.time) for x in found] == [(i, i) for i in range(1, 7)]


def test_a_skipped_step_does_not_count(toy, tmp_path):
  cfg = recipe(toy, steps=4)
  state = jax.device_get(toy.run(tmp_path, cfg, spoilt=(3,)))
  assert state.guard.skipped == 1 and state.opt_state.time == 3
  assert [x.time for x in snapshots.stored(tmp_path)] == [2, 3]


def test_a_disk_that_is_full_ends_no_run(toy, tmp_path, capsys, monkeypatch):
  def fail(*_, **__):
    raise OSError("No space left")

  monkeypatch.setattr(snapshots, "write_shards", fail)
  state = toy.run(tmp_path, recipe(toy, steps=3))
  assert int(state.step) == 3
  printed = capsys.readouterr().err
  assert "no snapshot after step 2, training goes on: cannot write" in printed
  with pytest.raises(UserError, match=r"no averages in .*train.posthoc_ema"):
    snapshots.stored(tmp_path)


def test_without_averages_the_state_is_what_it_was(toy):
  plain = toy.make(recipe(toy, posthoc_ema=())).state
  more = toy.make(recipe(toy)).state
  assert jax.tree.structure(more.opt_state.inner) == jax.tree.structure(
    plain.opt_state
  )


@pytest.mark.devices(4)
def test_averages_are_split_as_parameters_are(toy):
  run = toy.make(recipe(toy), mesh=sharding.make_mesh(MeshConfig(fsdp=4)))
  for average in run.state.opt_state.averages:
    kernel = average["temporal"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (4, 1)
