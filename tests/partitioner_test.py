# SPDX-License-Identifier: Apache-2.0
"""Why time is split in `shard_map` and never left to XLA.

XLA's partitioner gives wrong numbers for a convolution along a split dimension
wherever another axis of the mesh is idle. If a test here fails, XLA has mended
it, and `nn/frames.py` might become simpler.
"""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from lumiere_jax import sharding
from lumiere_jax.config import MeshConfig

AXES = (1, 1, 1)
NAMES = ("NTHWC", "THWIO", "NTHWC")


def convolve(x, kernel):
  return jax.lax.conv_general_dilated(
    x, kernel, AXES, "SAME", dimension_numbers=NAMES
  )


def gradients(x, kernel):
  def loss(x, kernel):
    return jnp.square(convolve(x, kernel)).sum()

  return jax.grad(loss, (0, 1))(x, kernel)


def ratios(mesh, x_spec, kernel_spec):
  """Of forward, input gradient and kernel gradient to the right ones."""
  x = jax.random.normal(jax.random.key(0), (2, 8, 4, 4, 16))
  kernel = jax.random.normal(jax.random.key(1), (3, 1, 1, 16, 16))

  def run(x, kernel):
    return convolve(x, kernel), *gradients(x, kernel)

  right = run(x, kernel)
  split = jax.jit(run)(
    jax.device_put(x, NamedSharding(mesh, x_spec)),
    jax.device_put(kernel, NamedSharding(mesh, kernel_spec)),
  )
  return [
    round(float(jnp.vdot(a, b) / jnp.vdot(b, b)), 3)
    for a, b in zip(split, right, strict=True)
  ]


@pytest.mark.devices(8)
def test_the_partitioner_still_is_wrong_along_time():
  mesh = sharding.make_mesh(MeshConfig(data=2, fsdp=2, frames=2))
  by_output = P(None, None, None, None, "fsdp")
  assert ratios(mesh, P("data", "frames"), P()) == [1, 1, 2]
  assert ratios(mesh, P(None, "frames"), P()) == [1, 1, 4]
  forward, by_x, by_kernel = ratios(mesh, P(None, "frames"), by_output)
  assert forward != 1
  assert by_x != 1
  assert by_kernel != 1


@pytest.mark.devices(8)
def test_the_partitioner_is_right_with_no_idle_axis():
  """It is the idle axis that leads it astray, not the splitting of time."""
  mesh = sharding.make_mesh(MeshConfig(data=2, frames=4))
  assert ratios(mesh, P("data", "frames"), P()) == [1, 1, 1]
