# SPDX-License-Identifier: Apache-2.0
"""The one U-Net: text-to-image in IF's form, and its inflation, the STUNet.

With `UNetConfig.temporal = None` this is the pre-trained text-to-image model
on images (or on the frames of a clip, each alone). With a `TemporalConfig` it
is the Space-Time U-Net of Lumiere (section 3.1, Fig. 4): the same modules
under the same names, plus modules called `temporal_*`. So inflating a
checkpoint is a merge of trees, and "the temporal part" is a path predicate.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.activation import activation
from lumiere_jax.nn.attention import TextImageAttention
from lumiere_jax.nn.conv import Conv
from lumiere_jax.nn.embed import TextEmbedding, TimestepEmbedding
from lumiere_jax.nn.frames import Frames, Split, levels
from lumiere_jax.nn.norm import group_norm
from lumiere_jax.nn.precision import types
from lumiere_jax.nn.remat import policy, read_parameter
from lumiere_jax.nn.resnet import (
  ResnetBlock,
  depth_to_space,
  space_to_depth,
)
from lumiere_jax.nn.temporal import (
  AttentionInflation,
  ConvInflation,
  TemporalDownsample,
  TemporalUpsample,
)
from lumiere_jax.shapes import Array, Bool, Float, Key, PyTree


class Condition(NamedTuple):
  """What every block of the network is told.

  Attributes:
    emb: (b, cfg.emb_dim) time, noise level and pooled text.
    temporal_emb: (b, t, cfg.emb_dim) time, pooled text of their own and the
      frame's number for the inflation blocks, or None if they get none.
    text: (b, s, d) projected text features.
    mask: (b, s) true where a token is real, or None.
    dropout_keys: (b,) typed keys of images, (b, t) of clips, or None for no
      dropout.
  """

  emb: jax.Array
  temporal_emb: jax.Array | None
  text: jax.Array
  mask: jax.Array | None
  dropout_keys: jax.Array | None = None

  def at(self, frames: Frames | None) -> "Condition":
    """What the blocks of a level are told, which has some of the frames."""

    def those(x: jax.Array | None) -> jax.Array | None:
      if x is None or x.ndim == 1 or frames is None:
        return x
      return frames.own(x[:, :: x.shape[1] // frames.count])

    return self._replace(
      temporal_emb=those(self.temporal_emb),
      dropout_keys=those(self.dropout_keys),
    )


def is_temporal(path: str) -> bool:
  """Whether inflation added the parameter at this "a/b/c" path."""
  return any(part.startswith("temporal_") for part in path.split("/"))


def is_input(path: str) -> bool:
  """Whether the parameter is of the convolution that sees the input."""
  return path.startswith("conv_in/")


class STUNet(nn.Module):
  """Denoising U-Net on images, or on whole clips in one pass.

  Attributes:
    cfg: shape of the network.
    split: the devices that a clip's frames lie on, inside `jax.shard_map`.
    read: what a block makes of its parameters, given its name and them, before
      it uses them; a sharded run brings them together here.
  """

  cfg: UNetConfig
  split: Split | None = None
  read: Callable[[str, PyTree], PyTree] | None = None

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b *t h w c"],
    t: Float[Array, " b"],
    text: Float[Array, "b s d"],
    mask: Bool[Array, "b s"] | None = None,
    noise_level: Float[Array, " b"] | None = None,
    dropout_keys: Key | None = None,
    *,
    deep_level: int = 0,
    deep: Float[Array, " b *deep"] | None = None,
  ) -> (
    Float[Array, "b *t h w out"]
    | tuple[Float[Array, "b *t h w out"], Float[Array, " b *deep"]]
  ):
    """Runs the network.

    Args:
      x: noisy pixels in [-1, 1] scale, and what is concatenated to them;
        (b, t, h, w, c) clips or, without temporal part, (b, h, w, c) images.
      t: discrete timesteps 0..T-1.
      text: features of the text encoder.
      mask: true where a token is real.
      noise_level: augmentation timestep, if cfg.class_embed_type has one.
      dropout_keys: a key for each example's dropout; without them, none.
      deep_level: a level below the finest; the feature that it hands up to the
        next finer one is returned too. 0 is none.
      deep: that feature, to be used instead of running the level, those below
        it and the middle (DeepCache, arXiv 2312.00858).

    Returns:
      The prediction in fp32, cfg.out_channels wide; with a deep_level also the
      feature, as `models.deep.deep_shape` says.

    Raises:
      ValueError: sizes that the strides do not divide, wrong rank or width, a
        level that is none.
    """
    cfg = self.cfg
    if not (0 if deep is None else 1) <= deep_level < cfg.num_levels:
      raise ValueError(f"{deep_level=} of {cfg.num_levels} levels")
    frames = self._frames(x)
    cond = self._condition(frames, t, text, mask, noise_level)
    cond = cond._replace(dropout_keys=_of_frames(dropout_keys, frames))
    told = [cond.at(f) for f in frames]
    width = cfg.block_out_channels

    h = space_to_depth(x, cfg.patch_size).astype(jnp.dtype(cfg.dtype))
    h = Conv(cfg, width[0], name="conv_in")(h)

    skips = [h]
    depth = cfg.num_levels if deep is None else deep_level
    for level in range(depth):
      block = self._block(DownBlock, frames, level, name=f"down_{level}")
      h, outputs = block(h, told[level])
      skips += outputs
    if deep is None:
      h = self._block(MidBlock, frames, name="mid")(h, told[-1])
    else:
      h = deep
      skips.pop()  # Made for the deep levels, whose skip connection it is.
    for level in reversed(range(depth)):
      if level == deep_level - 1:
        deep = h
      count = cfg.layers[level] + 1
      skips, used = skips[:-count], skips[-count:]
      block = self._block(UpBlock, frames, level, name=f"up_{level}")
      h = block(h, used, told[level])

    h = activation(cfg.act_fn)(group_norm(cfg, "norm_out")(h))
    h = Conv(
      cfg,
      cfg.out_channels * cfg.patch_size**2,
      exact=True,
      kernel_init=nn.initializers.zeros,
      name="conv_out",
    )(h)
    h = depth_to_space(h, cfg.patch_size)
    return (h, deep) if deep_level else h

  def _block(self, block: type[nn.Module], *args: Any, name: str) -> nn.Module:
    """A block, as parameters are read and activations are kept."""
    if self.read is not None:

      def read(variables: PyTree) -> PyTree:
        params = self.read(name, variables["params"])
        return {"params": jax.tree.map(read_parameter, params)}

      block = nn.map_variables(block, "params", read)
    kept = policy(self.cfg.remat, shared=self.read is not None)
    if kept is not None:
      block = nn.remat(block, policy=kept)
    return block(self.cfg, *args, name=name)

  def _frames(self, x: jax.Array) -> tuple[Frames | None, ...]:
    """The frames of each level; None for images.

    Raises:
      ValueError: as `__call__`.
    """
    cfg = self.cfg
    if x.ndim == 4:
      self._check(x, 1)
      return (None,) * cfg.num_levels
    count = x.shape[1] * (1 if self.split is None else self.split.devices)
    self._check(x, count)
    return levels(cfg, count, self.split)

  def _condition(
    self,
    frames: tuple[Frames | None, ...],
    t: jax.Array,
    text: jax.Array,
    mask: jax.Array | None,
    noise_level: jax.Array | None,
  ) -> Condition:
    cfg = self.cfg
    dim = cfg.emb_dim
    pool_mask = mask if cfg.mask_text == "all" else None
    if cfg.mask_text == "none":
      mask = None
    time = TimestepEmbedding(cfg, dim, name="time")(t)
    if cfg.class_embed_type == "timestep":
      time += TimestepEmbedding(cfg, dim, name="noise_level")(noise_level)
    emb = time + TextEmbedding(cfg, dim, name="text_pool")(text, pool_mask)
    emb = activation(cfg.time_embedding_act_fn)(emb)
    temporal_emb = None
    if cfg.temporal is not None and cfg.temporal.conditioned:
      pooled = TextEmbedding(
        cfg, dim, final_norm=False, name="temporal_text_pool"
      )(text, pool_mask)
      frame = TimestepEmbedding(cfg, dim, name="temporal_frame")
      each = frame(jnp.arange(frames[0].count, dtype=jnp.float32))
      temporal_emb = (time + pooled)[:, None] + each
      temporal_emb = temporal_emb.astype(jnp.dtype(cfg.dtype))
    text = nn.Dense(cfg.cross_attention_dim, name="text_proj", **types(cfg))(
      text
    )
    return Condition(emb.astype(jnp.dtype(cfg.dtype)), temporal_emb, text, mask)

  def _check(self, x: jax.Array, count: int) -> None:
    cfg = self.cfg
    if x.shape[-1] != cfg.in_channels:
      raise ValueError(
        f"input has {x.shape[-1]} channels, the network {cfg.in_channels=}"
      )
    for name, size in zip("hw", x.shape[-3:-1], strict=True):
      if size % cfg.spatial_stride:
        raise ValueError(
          f"{name}={size} pixels is not a multiple of {cfg.spatial_stride=}"
        )
    if cfg.temporal is None:
      return
    if x.ndim != 5:
      raise ValueError(f"an inflated network takes clips, not shape {x.shape}")
    if count % cfg.temporal_stride:
      raise ValueError(
        f"t={count} frames is not a multiple of {cfg.temporal_stride=}"
      )


def _of_frames(
  keys: Key | None, frames: tuple[Frames | None, ...]
) -> Key | None:
  """Keys (b,) of examples to those of their frames (b, t), if they have any."""
  if keys is None or frames[0] is None:
    return keys
  fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
  return fold(keys, jnp.arange(frames[0].count))


def _inflate(
  cfg: UNetConfig,
  frames: tuple[Frames | None, ...],
  level: int,
  index: int,
  h: jax.Array,
  cond: Condition,
) -> jax.Array:
  """Inflation block number `index` of a level; attention at the coarsest."""
  if cfg.temporal is None:
    return h
  if level == cfg.num_levels - 1:
    block = AttentionInflation
    name = f"temporal_attention_{index}"
  else:
    block = ConvInflation
    name = f"temporal_conv_{index}"
  return block(cfg, frames[level], name=name)(h, cond.temporal_emb)


def _attend(
  cfg: UNetConfig, level: int, index: int, h: jax.Array, cond: Condition
) -> jax.Array:
  """Cross attention number `index` of a level, where the level has any."""
  if not cfg.attention[level]:
    return h
  return TextImageAttention(
    cfg, cfg.only_cross[level], name=f"attention_{index}"
  )(h, cond.text, cond.mask)


class DownBlock(nn.Module):
  """One level on the way down.

  Returns the result and the skip connections, the result's own among them.
  """

  cfg: UNetConfig
  frames: tuple[Frames | None, ...]
  level: int

  @nn.compact
  def __call__(
    self, h: jax.Array, cond: Condition
  ) -> tuple[jax.Array, list[jax.Array]]:
    cfg, frames, level = self.cfg, self.frames, self.level
    width, scale = cfg.block_out_channels[level], cfg.resnet_out_scale_factor
    outputs = []
    for i in range(cfg.layers[level]):
      h = ResnetBlock(cfg, width, out_scale=scale, name=f"resnet_{i}")(
        h, cond.emb, cond.dropout_keys
      )
      h = _attend(cfg, level, i, h, cond)
      h = _inflate(cfg, frames, level, i, h, cond)
      outputs.append(h)
    if level < cfg.num_levels - 1:
      h = ResnetBlock(cfg, width, "down", scale, name="downsample")(
        h, cond.emb, cond.dropout_keys
      )
      if cfg.temporal is not None and cfg.temporal.resample:
        h = TemporalDownsample(
          cfg, frames[level], frames[level + 1], name="temporal_downsample"
        )(h)
      outputs.append(h)
    return h, outputs


class MidBlock(nn.Module):
  """The middle, at the coarsest level: residual, attention, residual."""

  cfg: UNetConfig
  frames: tuple[Frames | None, ...]

  @nn.compact
  def __call__(self, h: jax.Array, cond: Condition) -> jax.Array:
    cfg, frames = self.cfg, self.frames
    level = cfg.num_levels - 1
    width, scale = cfg.block_out_channels[level], cfg.mid_block_scale_factor
    for i in range(2):
      h = ResnetBlock(cfg, width, out_scale=scale, name=f"resnet_{i}")(
        h, cond.emb, cond.dropout_keys
      )
      if i == 0:
        h = TextImageAttention(
          cfg, cfg.mid_block_only_cross_attention, name="attention_0"
        )(h, cond.text, cond.mask)
      h = _inflate(cfg, frames, level, i, h, cond)
    return h


class UpBlock(nn.Module):
  """One level on the way up; takes the level's skip connections."""

  cfg: UNetConfig
  frames: tuple[Frames | None, ...]
  level: int

  @nn.compact
  def __call__(
    self, h: jax.Array, skips: list[jax.Array], cond: Condition
  ) -> jax.Array:
    cfg, frames, level = self.cfg, self.frames, self.level
    width, scale = cfg.block_out_channels[level], cfg.resnet_out_scale_factor
    for i in range(cfg.layers[level] + 1):
      h = jnp.concatenate([h, skips[-1 - i]], axis=-1)
      h = ResnetBlock(cfg, width, out_scale=scale, name=f"resnet_{i}")(
        h, cond.emb, cond.dropout_keys
      )
      h = _attend(cfg, level, i, h, cond)
      h = _inflate(cfg, frames, level, i, h, cond)
    if level > 0:
      h = ResnetBlock(cfg, width, "up", scale, name="upsample")(
        h, cond.emb, cond.dropout_keys
      )
      if cfg.temporal is not None and cfg.temporal.resample:
        h = TemporalUpsample(
          cfg, frames[level], frames[level - 1], name="temporal_upsample"
        )(h)
    return h
