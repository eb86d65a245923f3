# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.conv import (
  Conv3x3,
  conv_weight_gradient,
  patch_weight_gradient,
)


def draw(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_is_flaxs_convolution_with_its_gradients():
  x, target = draw(2, 3, 4, 5, 6), draw(2, 3, 4, 5, 7, seed=1)
  ours, flaxs = Conv3x3(UNetConfig(), 7), nn.Conv(7, (3, 3))
  params = flaxs.init(jax.random.key(0), x)
  params["params"]["bias"] = draw(7, seed=2)

  def loss(module):
    return lambda params, x: ((module.apply(params, x) - target) ** 2).sum()

  close(ours.apply(params, x), flaxs.apply(params, x))
  want = jax.grad(loss(flaxs), (0, 1))(params, x)
  got = jax.grad(loss(ours), (0, 1))(params, x)
  jax.tree.map(close, got, want)
  assert jax.tree.structure(
    ours.init(jax.random.key(0), x)
  ) == jax.tree.structure(params)


@pytest.mark.parametrize("batch", [1, 7, 12])
def test_both_weight_gradients_agree(batch):
  x, dy = draw(batch, 4, 3, 5), draw(batch, 4, 3, 2, seed=1)
  close(patch_weight_gradient(x, dy), conv_weight_gradient(x, dy))
