# SPDX-License-Identifier: Apache-2.0
"""The clip of a lower resolution that super-resolution starts from (§3.2)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from lumiere_jax.config import ConditionConfig
from lumiere_jax.diffusion.schedule import Schedule, make_schedule
from lumiere_jax.shapes import AnyArray, Array, Float, Key, Shaped

WITHIN = (-4, -2)  # the axes of a block in `blocks`


class LowRes(NamedTuple):
  """What a super-resolution network is given.

  Attributes:
    channels: (b *t h w 3) the enlarged and noised clip, float32.
    level: (b,) the timestep it was noised to.
  """

  channels: Array
  level: Array


def training_condition(
  x0: Float[Array, "b *t h w c"], keys: Key, cfg: ConditionConfig
) -> LowRes:
  """Makes the low-resolution clip of a training example out of the example.

  Args:
    x0: clean clips or images.
    keys: (b,) typed keys, for the level (uniform in 0..max_level) and the
      noise of each example.
    cfg: scale and noise.
  """
  level_keys, noise_keys = jax.vmap(jax.random.split, out_axes=1)(keys)

  def draw(key):
    return jax.random.randint(key, (), 0, cfg.max_level + 1)

  level = jax.vmap(draw)(level_keys).astype(jnp.float32)
  large = enlarge(shrink(x0, cfg.scale), cfg.scale, cfg.align_corners)
  return LowRes(
    augment(large, level, noise_keys, make_schedule(cfg.schedule)), level
  )


def augment(
  x: Float[Array, "b *t h w c"],
  level: Float[Array, " b"],
  keys: Key,
  schedule: Schedule,
) -> Float[Array, "b *t h w c"]:
  """Noises an enlarged clip to its level: noise conditioning augmentation.

  The network learns how far to trust what it is given, and so bears with what
  the stage before it gets wrong (arXiv 2106.15282, section 4).
  """
  noise = jax.vmap(lambda key: jax.random.normal(key, x.shape[1:]))(keys)
  return schedule.add_noise(x, noise, level)


def shrink(
  x: Float[Array, "*b h w c"], scale: int
) -> Float[Array, "*b low_h low_w c"]:
  """Means of blocks of scale x scale pixels.

  Raises:
    ValueError: the blocks do not fill the image.
  """
  return blocks(x, scale).mean(axis=WITHIN)


def blocks(
  x: Shaped[AnyArray, "*b h w c"], scale: int
) -> Shaped[AnyArray, "*b low_h scale low_w scale c"]:
  """Cuts images into blocks of scale x scale pixels, whose axes are WITHIN.

  Raises:
    ValueError: the blocks do not fill the image.
  """
  *lead, h, w, c = x.shape
  if h % scale or w % scale:
    raise ValueError(f"{h} x {w} pixels are not a multiple of {scale=}")
  return x.reshape(*lead, h // scale, scale, w // scale, scale, c)


def with_means(
  x: Float[Array, "*b h w c"], low: Float[Array, "*b low_h low_w c"]
) -> Float[Array, "*b h w c"]:
  """The nearest to `x` that `shrink` makes `low` of."""
  scale = x.shape[-2] // low.shape[-2]
  error = low - shrink(x, scale)
  return x + error.repeat(scale, axis=-3).repeat(scale, axis=-2)


def without_faint_details(
  x: Float[Array, "*b h w c"], large: Float[Array, "*b h w c"], floor: float
) -> Float[Array, "*b h w c"]:
  """Moves `x` towards the enlarged clip, by `floor` at most (soft threshold).

  Where a network means to add nothing it adds a little noise, which can hardly
  be seen, but makes what is flat rough (coring; the shrinkage of D. Donoho,
  IEEE Trans. Inf. Theory 41, 1995).
  """
  details = x - large
  kept = jnp.maximum(jnp.abs(details) - floor, 0.0)
  return large + jnp.sign(details) * kept


def enlarge(
  x: Float[Array, "*b h w c"], scale: int, align_corners: bool = False
) -> Float[Array, "*b high_h high_w c"]:
  """Bilinear enlarging, in float32.

  Args:
    x: images or clips.
    scale: how many times wider and higher the result is.
    align_corners: the outer pixels of the result are those of `x`; otherwise
      its edges are.
  """
  h, w = x.shape[-3:-1]

  def placed(n):
    """Factor and shift of an axis; pixel centres lie at halves."""
    if align_corners and n > 1:
      factor = (n * scale - 1) / (n - 1)
      return factor, 0.5 - 0.5 * factor
    return float(scale), 0.0

  factors, shifts = jnp.array([placed(h), placed(w)]).T
  return jax.image.scale_and_translate(
    x.astype(jnp.float32),
    (*x.shape[:-3], h * scale, w * scale, x.shape[-1]),
    (x.ndim - 3, x.ndim - 2),
    factors,
    shifts,
    method="linear",
    antialias=False,
    precision=jax.lax.Precision.HIGHEST,
  )
