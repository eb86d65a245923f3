# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AbstractMesh

from lumiere_jax import build, cli, sharding, trees
from lumiere_jax.config import TrainConfig
from lumiere_jax.config.recipe import OPTIMIZERS
from lumiere_jax.errors import UserError
from lumiere_jax.training.averages import evaluation_params
from lumiere_jax.training.optimizer import (
  MAKERS,
  ema_decay,
  is_kernel,
  make_optimizer,
)
from lumiere_jax.training.state import init_state

CFG = TrainConfig(
  steps=100, warmup_steps=20, learning_rate=0.4, final_learning_rate=0.1
)
PARAMS = {
  "conv": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
  "norm": {"scale": jnp.ones(2)},
}


def test_schedule_values():
  _, schedule = make_optimizer(CFG)
  steps = [0, 10, 20, 60, 100, 500]
  # Half-way down the cosine lies the mean of 0.4 and 0.04.
  expected = [0.0, 0.2, 0.4, 0.22, 0.04, 0.04]
  got = [float(schedule(s)) for s in steps]
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_schedule_without_warmup_starts_at_the_peak():
  _, schedule = make_optimizer(dataclasses.replace(CFG, warmup_steps=0))
  np.testing.assert_allclose(schedule(0), 0.4, rtol=1e-6)


def test_constant_schedule_rises_stays_and_falls():
  cfg = dataclasses.replace(CFG, schedule="constant", decay_steps=40)
  _, schedule = make_optimizer(cfg)
  steps = [0, 10, 20, 45, 60, 70, 96, 100, 500]
  # The peak is 0.4, the end 0.04: 1 - 0.9 sqrt(1/4), and sqrt(0.9).
  falling = [0.4 * 0.55, 0.4 * (1 - 0.9 * np.sqrt(0.9))]
  expected = [0.0, 0.2, 0.4, 0.4, 0.4, *falling, 0.04, 0.04]
  got = [float(schedule(s)) for s in steps]
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_constant_schedule_without_decay_does_not_know_the_end():
  cfg = dataclasses.replace(CFG, schedule="constant")
  rates = [
    [float(make_optimizer(one)[1](s)) for s in (5, 20, 99, 100, 10**6)]
    for one in (cfg, dataclasses.replace(cfg, steps=1000))
  ]
  assert rates[0] == rates[1] == pytest.approx([0.1, 0.4, 0.4, 0.4, 0.4])
  _, schedule = make_optimizer(dataclasses.replace(cfg, warmup_steps=0))
  np.testing.assert_allclose(schedule(0), 0.4, rtol=1e-6)


def test_warmup_and_decay_must_fit_in_the_run():
  cfg = dataclasses.replace(CFG, schedule="constant", decay_steps=81)
  with pytest.raises(
    UserError, match=r"warmup_steps=20 .*decay_steps=81 .* train.steps=100"
  ):
    make_optimizer(cfg)
  make_optimizer(dataclasses.replace(cfg, decay_steps=80))


def test_warmup_must_end_before_the_run():
  with pytest.raises(UserError, match=r"warmup_steps=100 .* train.steps=100"):
    make_optimizer(dataclasses.replace(CFG, warmup_steps=100))


def test_schedule_is_the_rate_of_the_updates():
  """Adam under a constant gradient moves by just the learning rate."""
  tx, schedule = make_optimizer(CFG)
  params = {"kernel": jnp.zeros(1)}
  state = tx.init(params)
  for step in range(30):
    updates, state = tx.update({"kernel": jnp.ones(1)}, state, params)
    np.testing.assert_allclose(
      updates["kernel"][0], -schedule(step), rtol=1e-4, atol=1e-9
    )


def test_every_optimizer_of_the_config_is_made():
  assert tuple(MAKERS) == OPTIMIZERS


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_kernels_decay(name):
  cfg = dataclasses.replace(
    CFG, optimizer=name, weight_decay=0.5, warmup_steps=0
  )
  tx, _ = make_optimizer(cfg)
  params = PARAMS | {"conv_out": {"kernel": jnp.ones((3, 3, 2, 2))}}
  zeros = optax.tree.zeros_like(params)
  updates, _ = tx.update(zeros, tx.init(params), params)
  for layer in ("conv", "conv_out"):
    np.testing.assert_allclose(updates[layer]["kernel"], -0.4 * 0.5, rtol=1e-6)
  np.testing.assert_array_equal(updates["conv"]["bias"], 0)
  np.testing.assert_array_equal(updates["norm"]["scale"], 0)


def test_state_of_adamw_is_what_old_checkpoints_hold():
  tx, schedule = make_optimizer(CFG)
  adamw = optax.adamw(schedule, weight_decay=0.0, mask=is_kernel)
  before = optax.chain(optax.clip_by_global_norm(1.0), adamw).init(PARAMS)
  assert jax.tree.structure(tx.init(PARAMS)) == jax.tree.structure(before)


def test_muon_steps_along_orthogonal_matrices_and_leaves_the_rest_to_adam():
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  params = {
    "conv": {"kernel": draw(3, 3, 8, 16), "bias": draw(16)},
    "proj": {"kernel": draw(64, 16)},
    "temporal": {"kernel": draw(3, 16, 64)},
    "pool": {"position": draw(16)},
    "conv_in": {"kernel": draw(3, 3, 3, 16)},
    "unet": {"conv_out": {"kernel": draw(3, 3, 16, 3)}},
  }
  grads = jax.tree.map(lambda p: 1e-3 * draw(*p.shape), params)
  cfg = dataclasses.replace(CFG, optimizer="muon", warmup_steps=0)
  tx, _ = make_optimizer(cfg)
  updates, _ = tx.update(grads, tx.init(params), params)
  for layer in ("conv", "proj", "temporal"):
    matrix = np.asarray(updates[layer].pop("kernel"))
    matrix = matrix.reshape(-1, matrix.shape[-1])
    values = np.linalg.svd(matrix / 0.4, compute_uv=False)
    # Five Newton-Schulz iterations leave them within 0.7 to 1.2.
    values /= 0.2 * np.sqrt(max(matrix.shape))
    assert values.min() > 0.6 and values.max() < 1.25
    # AdamW's updates are this large (arXiv 2502.16982, section 2.2).
    rms = np.sqrt(np.mean(matrix**2)) / 0.4
    assert 0.12 < rms < 0.25
    del params[layer]["kernel"], grads[layer]["kernel"]
  nadam = optax.nadam(0.4, b1=cfg.b1, b2=cfg.b2)
  expected, _ = nadam.update(grads, nadam.init(params))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), updates, expected
  )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_finds_the_bottom_of_a_bowl(name):
  cfg = dataclasses.replace(
    CFG, optimizer=name, learning_rate=0.05, final_learning_rate=0.0
  )
  tx, _ = make_optimizer(cfg)
  target = {"kernel": jnp.linspace(-0.4, 0.4, 6).reshape(2, 3)}
  params = optax.tree.zeros_like(target)
  state, update = tx.init(params), jax.jit(tx.update)
  for _ in range(CFG.steps):
    updates, state = update(
      jax.tree.map(jnp.subtract, params, target), state, params
    )
    params = optax.apply_updates(params, updates)
  found = evaluation_params(state, params)
  np.testing.assert_allclose(found["kernel"], target["kernel"], atol=0.05)


def test_schedule_free_evaluates_the_average_of_what_was_stepped_to():
  cfg = dataclasses.replace(
    CFG, optimizer="schedule_free_adamw", warmup_steps=0, weight_decay=0.1
  )
  tx, _ = make_optimizer(cfg)
  params, rng = PARAMS, np.random.default_rng(0)
  state, stepped = tx.init(params), []
  for _ in range(8):
    grads = jax.tree.map(
      lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params
    )
    updates, state = tx.update(grads, state, params)
    params = optax.apply_updates(params, updates)
    stepped.append(state[1].z)
  # At a constant rate all have the same weight (arXiv 2405.15682, eq. 4).
  mean = jax.tree.map(lambda *z: np.mean(z, axis=0), *stepped)
  found = evaluation_params(state, params)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    found,
    mean,
  )
  assert np.any(found["conv"]["kernel"] != params["conv"]["kernel"])


@pytest.fixture(scope="module")
def wide():
  """Shapes of a network whose moments Adafactor keeps by row and column."""
  cfg = cli.resolve(cli.read_config("configs/if_m.py"), {})
  return build.abstract_params(cfg.model)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_a_network_can_be_split(name, wide):
  tx, _ = make_optimizer(dataclasses.replace(CFG, optimizer=name))
  state = jax.eval_shape(lambda p: init_state(p, {}, tx), wide)
  mesh = AbstractMesh((1, 4, 1), ("data", "fsdp", "frames"))
  where = sharding.shard_tree(state, mesh, sharding.STATE_RULES)
  whole = sum(x.size for x in jax.tree.leaves(state.opt_state))
  split = sum(
    np.prod(s.shard_shape(x.shape))
    for x, s in zip(
      jax.tree.leaves(state.opt_state),
      jax.tree.leaves(where.opt_state),
      strict=True,
    )
  )
  if name == "adafactor":
    assert whole < 0.02 * trees.count(wide)
  else:
    assert split / whole < 0.26


def test_gradient_is_clipped_to_the_norm_over_all_leaves():
  tx, _ = make_optimizer(dataclasses.replace(CFG, clip_norm=3.0))
  _, state = tx.update(optax.tree.scale(50.0, PARAMS), tx.init(PARAMS), PARAMS)
  moment = optax.tree.get(state, "mu")
  np.testing.assert_allclose(
    optax.tree.norm(moment), 3.0 * (1 - CFG.b1), rtol=1e-5
  )


def test_ema_decay_warms_up_to_its_limit():
  got = [float(ema_decay(jnp.int32(s), 0.9)) for s in (0, 8, 79, 80, 1000)]
  np.testing.assert_allclose(got, [0.1, 0.5, 80 / 89, 0.9, 0.9], rtol=1e-6)
