# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lumiere_jax.config import TrainConfig
from lumiere_jax.errors import UserError
from lumiere_jax.training.optimizer import ema_decay, make_optimizer

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


def test_only_kernels_decay():
  cfg = dataclasses.replace(CFG, weight_decay=0.5, warmup_steps=0)
  tx, _ = make_optimizer(cfg)
  zeros = optax.tree.zeros_like(PARAMS)
  updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
  np.testing.assert_allclose(updates["conv"]["kernel"], -0.4 * 0.5, rtol=1e-6)
  np.testing.assert_array_equal(updates["conv"]["bias"], 0)
  np.testing.assert_array_equal(updates["norm"]["scale"], 0)


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
