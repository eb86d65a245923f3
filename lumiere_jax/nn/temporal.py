# SPDX-License-Identifier: Apache-2.0
"""What inflation adds: every layer that looks along time (section 3.1).

All residual layers here start as the identity and all resampling starts as
nearest-neighbour, so an inflated network starts equal to the text-to-image
one. This module is the only place that mixes frames. Where a clip's frames lie
on several devices, `nn/frames.py` brings together what a layer needs.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.activation import activation
from lumiere_jax.nn.attention import split_heads
from lumiere_jax.nn.conv import Conv
from lumiere_jax.nn.embed import sinusoid
from lumiere_jax.nn.frames import Frames
from lumiere_jax.nn.norm import group_norm, layer_norm
from lumiere_jax.nn.precision import softmax_fp32, types
from lumiere_jax.nn.remat import conv_output
from lumiere_jax.nn.resnet import scale_shift
from lumiere_jax.shapes import Array, Float


def identity_init(
  key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike
) -> jax.Array:
  """Centre tap is the identity matrix, the others are zero (appendix B)."""
  del key
  taps, c_in, c_out = shape
  kernel = jnp.zeros(shape, dtype)
  return kernel.at[taps // 2].set(jnp.eye(c_in, c_out, dtype=dtype))


def temporal_conv(
  x: Float[Array, "b t h w c"],
  kernel: Float[Array, "k c d"],
  stride: int = 1,
) -> Float[Array, "b t2 h w d"]:
  """1-D convolution along time, in the form that is fast on the device.

  docs/benchmarks.md has both forms' times.

  Args:
    x: the frames, and on either side half a kernel more.
    kernel: an odd number of taps.
    stride: every stride-th frame is kept.
  """
  return lax.platform_dependent(
    x,
    kernel,
    cpu=functools.partial(folded_conv, stride=stride),
    default=functools.partial(shifted_matmuls, stride=stride),
  )


def shifted_matmuls(x: Array, kernel: Array, stride: int = 1) -> Array:
  """`temporal_conv` as a sum of matmuls, one for each tap.

  It avoids known faults of 1-D convolutions on GPUs, and of the partitioner
  over time.
  """
  taps = kernel.shape[0]
  frames = x.shape[1] - taps + 1
  return sum(x[:, i : i + frames : stride] @ kernel[i] for i in range(taps))


def folded_conv(x: Array, kernel: Array, stride: int = 1) -> Array:
  """`temporal_conv` as a 2-D convolution of frames by pixels.

  With a stride, frames are first dealt out by their place within it: the
  gradients of a convolution with a stride are slow on CPUs.
  """
  b, t, h, w, c = x.shape
  count = (t - kernel.shape[0]) // stride + 1
  x = x.reshape(b, t, h * w, c)
  total = 0.0
  for i in range(min(stride, kernel.shape[0])):
    taps = kernel[i::stride]
    total += lax.conv_general_dilated(
      x[:, i::stride][:, : count + taps.shape[0] - 1],
      taps[:, None],
      (1, 1),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
  return total.reshape(b, count, h, w, kernel.shape[-1])


class TemporalConv(nn.Module):
  """Learned 1-D convolution along time; beyond the clip are zeros.

  Attributes:
    cfg: the network's configuration.
    frames: of the clip that it sees.
    stride: every stride-th frame is kept.
    kernel_init: initializer of the (taps, c, c) kernel.
  """

  cfg: UNetConfig
  frames: Frames
  stride: int = 1
  kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

  @nn.compact
  def __call__(
    self, x: Float[Array, "b t h w c"]
  ) -> Float[Array, "b t2 h w c"]:
    c = x.shape[-1]
    dtype, param_dtype = types(self.cfg).values()
    taps = self.cfg.temporal.kernel_size
    kernel = self.param("kernel", self.kernel_init, (taps, c, c), param_dtype)
    bias = self.param("bias", nn.initializers.zeros, (c,), param_dtype)
    x = self.frames.halo(x.astype(dtype), taps // 2)
    y = temporal_conv(x, kernel.astype(dtype), self.stride)
    return conv_output(y + bias.astype(dtype))


def _resample_init(cfg: UNetConfig) -> nn.initializers.Initializer:
  if cfg.temporal.init == "identity":
    return identity_init
  return nn.initializers.he_normal()  # The ablation of Fig. 12.


class TemporalDownsample(nn.Module):
  """Temporal convolution, then every second frame (appendix B).

  Attributes:
    cfg: the network's configuration.
    frames: of the clip that it sees.
    below: of the clip that it makes.
  """

  cfg: UNetConfig
  frames: Frames
  below: Frames

  @nn.compact
  def __call__(
    self, x: Float[Array, "b t h w c"]
  ) -> Float[Array, "b t2 h w c"]:
    init = _resample_init(self.cfg)
    frames = Frames(self.frames.count, self.below.split)
    x = self.frames.move(x, frames)
    return TemporalConv(self.cfg, frames, 2, init, name="conv")(x)


class TemporalUpsample(nn.Module):
  """Every frame twice, then a temporal convolution (appendix B).

  Attributes:
    cfg: the network's configuration.
    frames: of the clip that it sees.
    above: of the clip that it makes.
  """

  cfg: UNetConfig
  frames: Frames
  above: Frames

  @nn.compact
  def __call__(
    self, x: Float[Array, "b t h w c"]
  ) -> Float[Array, "b t2 h w c"]:
    init = _resample_init(self.cfg)
    frames = Frames(self.above.count, self.frames.split)
    x = jnp.repeat(x, 2, axis=1)
    x = TemporalConv(self.cfg, frames, kernel_init=init, name="conv")(x)
    return frames.move(x, self.above)


class ConvInflation(nn.Module):
  """Factorised space-time convolution as a residual (Fig. 4b).

  2-D spatial convolution, 1-D temporal convolution, zero-initialised linear
  projection. Norms and activations stand where the text-to-image residual
  block has them; the figure shows none (our decision). An embedding of each
  frame, if given, scales and shifts what follows the second norm.

  Attributes:
    cfg: the network's configuration.
    frames: of the clip that it sees.
  """

  cfg: UNetConfig
  frames: Frames

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b t h w c"],
    emb: Float[Array, "b t d"] | None,
  ) -> Float[Array, "b t h w c"]:
    cfg, c = self.cfg, x.shape[-1]
    act = activation(cfg.act_fn)
    h = act(group_norm(cfg, "norm1")(x))
    h = Conv(cfg, c, name="spatial")(h)
    h = group_norm(cfg, "norm2")(h)
    if emb is not None:
      emb = nn.Dense(2 * c, name="emb_proj", **types(cfg))(act(emb))
      h = scale_shift(h, emb)
    h = TemporalConv(cfg, self.frames, name="temporal")(act(h))
    zeros = nn.initializers.zeros
    return x + nn.Dense(c, kernel_init=zeros, name="proj", **types(cfg))(h)


class AttentionInflation(nn.Module):
  """Stacked temporal self-attention as a residual (Fig. 4c).

  Every pixel attends over the frames of the clip; the linear projection at
  the end is zero-initialised. Frame positions are sinusoidal (our decision),
  so that clips of other lengths than the trained one need no new parameters.
  An embedding of each frame, if given, scales and shifts what the first norm
  leaves.

  Attributes:
    cfg: the network's configuration.
    frames: of the clip that it sees.
  """

  cfg: UNetConfig
  frames: Frames

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b t h w c"],
    emb: Float[Array, "b t d"] | None,
  ) -> Float[Array, "b t h w c"]:
    cfg = self.cfg
    b, t, height, width, c = x.shape
    pixels = height * width
    h = layer_norm("norm", **types(cfg))(x)
    if emb is not None:
      emb = activation(cfg.act_fn)(emb)
      emb = nn.Dense(2 * c, name="emb_proj", **types(cfg))(emb)
      h = scale_shift(h, emb)
    # (b, h*w, t, c): attention runs over the frames of one pixel.
    h = self.frames.swap(h.reshape(b, t, pixels, c))
    h = jnp.swapaxes(h, 1, 2)
    h += sinusoid(jnp.arange(h.shape[2], dtype=jnp.float32), c).astype(h.dtype)
    for i in range(cfg.temporal.attention_layers):
      h += self._attend(layer_norm(f"norm_{i}", **types(cfg))(h), i)
    zeros = nn.initializers.zeros
    h = nn.Dense(c, kernel_init=zeros, name="proj", **types(cfg))(h)
    h = self.frames.swap_back(jnp.swapaxes(h, 1, 2), pixels)
    return x + h.reshape(x.shape)

  def _attend(
    self, h: Float[Array, "b p t c"], layer: int
  ) -> Float[Array, "b p t c"]:
    cfg, c = self.cfg, h.shape[-1]
    head_dim = cfg.temporal.attention_head_dim
    q, k, v = (
      split_heads(
        nn.Dense(c, name=f"{name}_{layer}", **types(cfg))(h), head_dim
      )
      for name in ("to_q", "to_k", "to_v")
    )
    logits = jnp.einsum("bptnd,bpsnd->bpnts", q * head_dim**-0.5, k)
    weights = softmax_fp32(logits, v.dtype)
    out = jnp.einsum("bpnts,bpsnd->bptnd", weights, v).reshape(h.shape)
    return nn.Dense(c, name=f"to_out_{layer}", **types(cfg))(out)
