# SPDX-License-Identifier: Apache-2.0
"""TransNetV2's convolutions, for features of clips that see order and movement.

The network (arXiv 2008.04838) finds where one shot ends and the next begins.
Its three blocks of 3-D convolutions, dilated in time by 1, 2, 4 and 8 frames,
make the features; its comparisons of frames and histograms, and what decides,
are left out.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.features.norm import FixedNorm
from lumiere_jax.shapes import Array, Float, PyTree

HEIGHT, WIDTH = 27, 48  # of the frames that it sees
FILTERS = (16, 32, 64)  # of each branch of a block
DIMENSIONS = 4 * sum(FILTERS)
_DILATIONS = (1, 2, 4, 8)


class TransNetV2(nn.Module):
  """Features of clips of any length."""

  @nn.compact
  def __call__(
    self, pixels: Float[Array, "b t 27 48 3"]
  ) -> Float[Array, "b 448"]:
    """Means over space and time of the three blocks; `pixels` in [-1, 1]."""
    x, found = (pixels + 1) / 2, []
    for number, filters in enumerate(FILTERS):
      first = _Dilated(filters, name=f"block_{number}_0")(x)
      first = nn.relu(first)
      x = nn.relu(_Dilated(filters, name=f"block_{number}_1")(first)) + first
      x = nn.avg_pool(x, (1, 2, 2), (1, 2, 2), "VALID")
      found.append(x.mean(axis=(1, 2, 3)))
    return jnp.concatenate(found, axis=-1)


class _Dilated(nn.Module):
  """Four branches, each a convolution in space, then a dilated one in time."""

  filters: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    branches = []
    for dilation in _DILATIONS:
      y = _conv(2 * self.filters, (1, 3, 3), 1, f"space_{dilation}")(x)
      y = _conv(self.filters, (3, 1, 1), dilation, f"time_{dilation}")(y)
      branches.append(y)
    return FixedNorm(name="norm")(jnp.concatenate(branches, axis=-1))


def _conv(
  channels: int, kernel: tuple[int, int, int], dilation: int, name: str
) -> nn.Conv:
  return nn.Conv(
    channels,
    kernel,
    kernel_dilation=(dilation, 1, 1),
    use_bias=False,
    precision=jax.lax.Precision.HIGHEST,
    name=name,
  )


def abstract_params() -> PyTree:
  """Shapes of the parameters."""
  clip = jax.ShapeDtypeStruct((1, 16, HEIGHT, WIDTH, 3), jnp.float32)
  return jax.eval_shape(TransNetV2().init, jax.random.key(0), clip)["params"]
