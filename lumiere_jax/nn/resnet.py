# SPDX-License-Identifier: Apache-2.0
"""The spatial residual block of the text-to-image U-Net and its resampling."""

import zlib
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.activation import activation
from lumiere_jax.nn.conv import Conv
from lumiere_jax.nn.norm import group_norm
from lumiere_jax.nn.precision import types
from lumiere_jax.shapes import Array, Float, Key


def upsample(x: Float[Array, "*b h w c"]) -> Float[Array, "*b h2 w2 c"]:
  """Nearest-neighbour doubling of height and width."""
  *lead, h, w, c = x.shape
  x = x.reshape(*lead, h, 1, w, 1, c)
  x = jnp.broadcast_to(x, (*lead, h, 2, w, 2, c))
  return x.reshape(*lead, 2 * h, 2 * w, c)


def downsample(x: Float[Array, "*b h w c"]) -> Float[Array, "*b h2 w2 c"]:
  """Mean over 2 x 2 pixels."""
  *lead, h, w, c = x.shape
  return x.reshape(*lead, h // 2, 2, w // 2, 2, c).mean((-4, -2))


def space_to_depth(
  x: Float[Array, "*b h w c"], size: int
) -> Float[Array, "*b h2 w2 c2"]:
  """Moves patches of size x size pixels into channels (arXiv 2301.11093)."""
  *lead, h, w, c = x.shape
  x = x.reshape(*lead, h // size, size, w // size, size, c)
  x = jnp.moveaxis(x, -4, -3)
  return x.reshape(*lead, h // size, w // size, size * size * c)


def depth_to_space(
  x: Float[Array, "*b h w c"], size: int
) -> Float[Array, "*b h2 w2 c2"]:
  """Inverse of `space_to_depth`."""
  *lead, h, w, c = x.shape
  x = x.reshape(*lead, h, w, size, size, c // size**2)
  x = jnp.moveaxis(x, -3, -4)
  return x.reshape(*lead, h * size, w * size, c // size**2)


def scale_shift(
  x: Float[Array, "b *t h w c"], emb: Float[Array, "b *t2 d"]
) -> Float[Array, "b *t h w c"]:
  """Returns x (1 + scale) + shift; emb holds both, one pair or each frame's."""
  ones = (1,) * (x.ndim - emb.ndim)
  emb = emb.reshape(*emb.shape[:-1], *ones, emb.shape[-1])
  scale, shift = jnp.split(emb, 2, axis=-1)
  return x * (1 + scale) + shift


def dropout(
  x: Float[Array, "*b h w c"], keys: Key, rate: float
) -> Float[Array, "*b h w c"]:
  """Dropout whose draws are each image's own, and so each frame's of a clip.

  Flax's takes one key for the batch, so what an example loses would depend on
  where in which split of the batch it stands.
  """

  def keep(key):
    return jax.random.bernoulli(key, 1 - rate, x.shape[-3:])

  kept = jax.vmap(keep)(keys.reshape(-1)).reshape(x.shape)
  return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


class ResnetBlock(nn.Module):
  """Norm, activation, conv, scale-shift by the embedding, conv, residual.

  Attributes:
    cfg: the network's configuration.
    channels: width of the result.
    resample: "none", or spatial "up" or "down" by 2 inside the block.
    out_scale: the residual sum is divided by it.
  """

  cfg: UNetConfig
  channels: int
  resample: Literal["none", "up", "down"] = "none"
  out_scale: float = 1.0

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b *t h w c"],
    emb: Float[Array, "b d"],
    dropout_keys: Key | None = None,
  ) -> Float[Array, "b *t h2 w2 c2"]:
    cfg = self.cfg
    act = activation(cfg.act_fn)
    resample = {"none": lambda y: y, "up": upsample, "down": downsample}
    resample = resample[self.resample]

    h = act(group_norm(cfg, "norm1")(x))
    h = Conv(cfg, self.channels, name="conv1")(resample(h))
    if not cfg.resnet_skip_time_act:
      emb = act(emb)
    emb = nn.Dense(2 * self.channels, name="time_proj", **types(cfg))(emb)
    h = act(scale_shift(group_norm(cfg, "norm2")(h), emb))
    if dropout_keys is not None and cfg.dropout > 0:
      h = dropout(h, self._own_keys(dropout_keys), cfg.dropout)
    # Zero at the start, as in IF and ADM; imported weights replace it.
    zeros = nn.initializers.zeros
    h = Conv(cfg, self.channels, kernel_init=zeros, name="conv2")(h)
    x = resample(x)
    if x.shape[-1] != self.channels:
      x = Conv(cfg, self.channels, size=1, name="shortcut")(x)
    return (x + h) / self.out_scale

  def _own_keys(self, keys: Key) -> Key:
    """The images' keys for this block; each block of a network has others."""
    place = zlib.crc32("/".join(self.path).encode())
    fold = jax.vmap(jax.random.fold_in, (0, None))
    return fold(keys.reshape(-1), place).reshape(keys.shape)
