# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.conv import Conv


def draw(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_is_flaxs_convolution_with_its_gradients(size, exact):
  x, target = draw(2, 3, 4, 5, 6), draw(2, 3, 4, 5, 7, seed=1)
  ours, flaxs = Conv(UNetConfig(), 7, size, exact), nn.Conv(7, (size, size))
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


def test_exact_computes_in_fp32_with_its_gradients():
  """Of bf16 networks the last convolution alone is fp32, backwards too."""
  cfg = UNetConfig(dtype="bfloat16")
  x = draw(2, 4, 4, 6)
  params = Conv(cfg, 7, exact=True).init(jax.random.key(0), x)

  def loss(params, exact):
    return (Conv(cfg, 7, exact=exact).apply(params, x) ** 2).sum()

  want = jax.grad(loss)(params, True)
  rough = jax.grad(loss)(params, False)
  plain = nn.Conv(7, (3, 3))
  true = jax.grad(lambda params: (plain.apply(params, x) ** 2).sum())(params)
  jax.tree.map(close, want, true)
  with pytest.raises(AssertionError):
    jax.tree.map(close, rough, true)
