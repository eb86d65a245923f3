# SPDX-License-Identifier: Apache-2.0
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from lumiere_jax.nn.activation import activation

X = jnp.linspace(-6.0, 6.0, 241)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gelu_is_exact_and_so_is_its_slope(dtype):
  x = X.astype(dtype)

  def exact(x):
    return nn.gelu(x, approximate=False)

  np.testing.assert_array_equal(activation("gelu")(x), exact(x))
  for wanted, found in (
    (jax.grad(lambda x: exact(x).sum()), jax.grad(lambda x: _gelu(x).sum())),
    (
      lambda x: jax.jvp(exact, (x,), (x,))[1],
      lambda x: jax.jvp(_gelu, (x,), (x,))[1],
    ),
  ):
    right = wanted(X)
    bound = 1e-6 if dtype == jnp.float32 else 0.05
    np.testing.assert_allclose(found(x).astype(jnp.float32), right, atol=bound)


def test_gelu_can_be_differentiated_on_a_device_of_many():
  """In the automatic derivative jax 0.12.0 raises."""
  mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
  along = PartitionSpec("data")
  shared = jax.shard_map(_gelu, mesh=mesh, in_specs=along, out_specs=along)
  slope = jax.grad(lambda x: shared(x).sum())(X)
  np.testing.assert_allclose(slope, jax.grad(lambda x: _gelu(x).sum())(X))


def _gelu(x):
  return activation("gelu")(x)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_silu_and_its_slope_are_jaxs(dtype):
  """Far from zero too, where the quotient has no slope of its own."""
  x = jnp.array([-1e30, -200, -90, -30, -5, -1, 0, 1e-3, 2, 40, 1e30], dtype)
  silu = activation("silu")
  tolerance = {"rtol": 8 * float(jnp.finfo(dtype).eps), "atol": 1e-30}

  def slope(f):
    return jax.vmap(jax.grad(f))

  for ours, theirs in (
    (silu, jax.nn.silu),
    (slope(silu), slope(jax.nn.silu)),
  ):
    found, want = (np.asarray(f(x), np.float32) for f in (ours, theirs))
    np.testing.assert_allclose(found, want, **tolerance)
  assert silu(x).dtype == dtype


def test_an_unknown_name_is_refused_with_the_choices():
  with pytest.raises(ValueError, match=r"'relu'; choices: gelu, none, silu"):
    activation("relu")
