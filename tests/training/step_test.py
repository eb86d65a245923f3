# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.training.state import full_ema, full_params
from lumiere_jax.training.step import bucket_losses

CLOSE = dict(rtol=2e-5, atol=1e-6)


@pytest.fixture(scope="module")
def examples(toy):
  """Four batches."""
  data = toy.batches(toy.CFG, [])
  return [next(data) for _ in range(4)]


def follow(run, examples):
  """Returns every state (on the host) and metrics of a run over batches."""
  states, metrics = [jax.device_get(run.state)], []
  state = run.state
  for batch in examples:
    state, m = run.step(state, batch)
    states.append(jax.device_get(state))
    metrics.append(jax.device_get(m))
  return states, metrics


@pytest.fixture(scope="module")
def one_device(toy, examples):
  """(states, metrics, a trace of the loss each) of four steps."""
  traces = []

  def counted(params, batch, keys):
    traces.append(1)
    return toy.loss_fn(params, batch, keys)

  run = toy.make(loss=counted, devices=jax.devices()[:1])
  return *follow(run, examples), traces


def assert_close(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **CLOSE), a, b)


def norm(tree):
  return np.sqrt(sum(np.square(x).sum() for x in jax.tree.leaves(tree)))


def types(tree):
  return {x.dtype.name for x in jax.tree.leaves(tree)}


def paths(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return [jax.tree_util.keystr(path) for path, _ in leaves]


def test_frozen_is_frozen(one_device):
  states, _, _ = one_device
  for state in states[1:]:
    jax.tree.map(np.testing.assert_array_equal, state.frozen, states[0].frozen)
  first, last = states[0].params["temporal"], states[-1].params["temporal"]
  assert (first["kernel"] != last["kernel"]).all()
  assert paths(states[0].frozen)
  for part in (states[0].opt_state, states[0].ema, states[0].params):
    assert any("temporal" in path for path in paths(part))
    assert not any("spatial" in path for path in paths(part))


def test_full_trees_join_frozen_and_trained(one_device):
  state = one_device[0][-1]
  assert full_params(state) == state.frozen | state.params
  assert full_ema(state) == state.frozen | state.ema


def test_second_step_does_not_recompile(one_device):
  states, _, traces = one_device
  assert states[-1].step == 4
  assert len(traces) == 1


def test_ema_is_the_closed_form(toy, one_device):
  states, _, _ = one_device
  expected = states[0].params["temporal"]["kernel"].astype(np.float64)
  for step, state in enumerate(states[1:]):
    decay = min(toy.CFG.ema_decay, (1 + step) / (10 + step))
    new = state.params["temporal"]["kernel"]
    expected = decay * expected + (1 - decay) * new
    got = state.ema["temporal"]["kernel"]
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_metrics_agree_with_the_states(one_device):
  states, metrics, _ = one_device
  for before, after, m in zip(states, states[1:], metrics, strict=False):
    change = jax.tree.map(np.subtract, after.params, before.params)
    np.testing.assert_allclose(m["update_norm"], norm(change), **CLOSE)
    np.testing.assert_allclose(m["param_norm"], norm(after.params), **CLOSE)
    np.testing.assert_allclose(m["loss"], m["loss_sum"].sum() / 8, rtol=1e-5)
    assert m["loss_count"].sum() == 8
  assert [float(m["lr"]) for m in metrics[:3]] == pytest.approx([0, 0.05, 0.1])


def example_keys(seed, step):
  key = jax.random.fold_in(jax.random.key(seed), step)
  return jnp.stack([jax.random.fold_in(key, i) for i in range(8)])


def test_randomness_is_a_function_of_seed_step_and_example(
  toy, one_device, examples
):
  states, metrics, _ = one_device
  for step, (before, batch) in enumerate(zip(states, examples, strict=False)):
    keys = example_keys(toy.CFG.seed, step)
    losses, _ = toy.loss_fn(full_params(before), batch, keys)
    np.testing.assert_allclose(metrics[step]["loss"], losses.mean(), rtol=1e-5)


def test_gradient_is_that_of_the_mean_loss(toy, one_device, examples):
  """Against finite differences of the loss that the first step reports."""
  states, metrics, _ = one_device
  keys = example_keys(toy.CFG.seed, 0)
  train, frozen = toy.params()

  def loss(bias):
    tree = {"temporal": train["temporal"] | {"bias": bias}, **frozen}
    return toy.loss_fn(tree, examples[0], keys)[0].mean()

  bias = train["temporal"]["bias"]
  np.testing.assert_allclose(metrics[0]["loss"], loss(bias), rtol=1e-5)
  numeric = (loss(bias + 0.1) - loss(bias - 0.1)) / 0.2
  clipped = numeric / max(1.0, metrics[0]["grad_norm"] / toy.CFG.clip_norm)
  (moment,) = (
    x
    for path, x in jax.tree_util.tree_leaves_with_path(states[1].opt_state)
    if "mu" in jax.tree_util.keystr(path)
    and "bias" in jax.tree_util.keystr(path)
  )
  total = moment.sum() / (1 - toy.CFG.b1)
  np.testing.assert_allclose(total, clipped, rtol=1e-3)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_equals_one_big_batch(
  toy, one_device, examples, accumulate
):
  cfg = dataclasses.replace(toy.CFG, accumulate=accumulate)
  states, metrics = follow(toy.make(cfg, devices=jax.devices()[:1]), examples)
  assert_close(states, one_device[0])
  assert_close(metrics, one_device[1])


@pytest.mark.devices(8)
def test_eight_devices_equal_one(toy, one_device, examples):
  assert jax.device_count() == 8
  states, metrics = follow(toy.make(), examples)
  assert_close(states, one_device[0])
  assert_close(metrics, one_device[1])
  jax.tree.map(
    np.testing.assert_array_equal, states[-1].frozen, states[0].frozen
  )

  big = [
    {k: np.concatenate([a[k], b[k]]) for k in a}
    for a, b in zip(examples[:2], examples[2:], strict=True)
  ]
  cfg = dataclasses.replace(toy.CFG, batch_size=16)
  expected = follow(toy.make(cfg, devices=jax.devices()[:1]), big)
  cfg = dataclasses.replace(cfg, accumulate=2)
  assert_close(follow(toy.make(cfg), big), expected)

  with pytest.raises(UserError, match=r"12 .* 8 devices .* 8, 16 or 24"):
    toy.make(dataclasses.replace(toy.CFG, batch_size=12))


def test_half_precision_parameters_keep_fp32_averages_and_moments(
  toy, examples
):
  half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), toy.params())
  states, _ = follow(toy.make(tree=lambda: half), examples[:2])
  assert types(states[-1].params) == types(states[-1].frozen) == {"bfloat16"}
  assert types(states[-1].ema) == {"float32"}
  assert types(states[-1].opt_state) == {"float32", "int32"}


def test_given_state_is_donated(toy, examples):
  run = toy.make()
  run.step(run.state, examples[0])
  for part in (run.state.params, run.state.ema, run.state.opt_state):
    assert all(x.is_deleted() for x in jax.tree.leaves(part))


def test_buckets_of_a_hand_example():
  losses = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
  t = jnp.array([0.0, 249.0, 250.0, 999.0, 750.0])
  sums, counts = bucket_losses(losses, t, 1000)
  np.testing.assert_array_equal(sums, [3, 4, 0, 24])
  np.testing.assert_array_equal(counts, [2, 1, 0, 2])
