# SPDX-License-Identifier: Apache-2.0
"""Batch norm whose statistics are parameters, and convolutions before it."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from lumiere_jax.shapes import Array

_ZEROS, _ONES = nn.initializers.zeros, nn.initializers.ones


class FixedNorm(nn.Module):
  """Batch norm of a network that is not trained any more.

  Attributes:
    epsilon: added to the variance.
  """

  epsilon: float = 1e-3

  @nn.compact
  def __call__(self, x: Array) -> Array:
    mean, var, scale, bias = (
      self.param(name, init, x.shape[-1:])
      for name, init in (
        ("mean", _ZEROS),
        ("var", _ONES),
        ("scale", _ONES),
        ("bias", _ZEROS),
      )
    )
    return (x - mean) * (scale * jax.lax.rsqrt(var + self.epsilon)) + bias


class ConvNorm(nn.Module):
  """A convolution without bias, and its norm.

  Over as many axes as the kernel has; activations have the channels last.

  Attributes:
    channels: width of the result.
    kernel: its size along each axis.
    stride: along all axes.
    groups: of channels that do not see each other.
  """

  channels: int
  kernel: Sequence[int]
  stride: int = 1
  groups: int = 1

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = nn.Conv(
      self.channels,
      tuple(self.kernel),
      strides=self.stride,
      padding="SAME",
      feature_group_count=self.groups,
      use_bias=False,
      precision=jax.lax.Precision.HIGHEST,
      name="conv",
    )(x)
    return FixedNorm(name="norm")(x)
