# SPDX-License-Identifier: Apache-2.0
"""2-D convolution over frames that are a batch."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.precision import types
from lumiere_jax.nn.remat import conv_output
from lumiere_jax.shapes import Array, Float


class Conv(nn.Module):
  """2-D convolution, zero-padded; frames are a batch to it.

  Parameters are those of `nn.Conv` of the same size.

  Attributes:
    cfg: the network's configuration.
    channels: width of the result.
    size: 3 for 3 x 3 pixels, 1 for pixel by pixel.
    exact: computes in fp32, multiplications too, whatever `cfg.dtype`.
    kernel_init: initializer of the (size, size, c, channels) kernel.
  """

  cfg: UNetConfig
  channels: int
  size: Literal[1, 3] = 3
  exact: bool = False
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(self, x: Float[Array, "*b h w c"]) -> Float[Array, "*b h w d"]:
    dtype, param_dtype = types(self.cfg).values()
    dtype = jnp.dtype(jnp.float32) if self.exact else dtype
    precision = lax.Precision.HIGHEST if self.exact else None
    shape = (self.size, self.size, x.shape[-1], self.channels)
    kernel = self.param("kernel", self.kernel_init, shape, param_dtype)
    bias = self.param(
      "bias", nn.initializers.zeros, (self.channels,), param_dtype
    )
    x, kernel, bias = (a.astype(dtype) for a in (x, kernel, bias))
    if self.size == 1:
      # As a convolution, its weight gradient is slow on CPUs, and so is its
      # input gradient, which XLA fuses with that of the norm before it.
      pixels = x.reshape(-1, x.shape[-1])
      y = jnp.dot(pixels, kernel[0, 0], precision=precision)
    else:
      y = lax.conv_general_dilated(
        x.reshape(-1, *x.shape[-3:]),
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
      )
    y = y.reshape(*x.shape[:-1], self.channels) + bias
    return conv_output(y)
