# SPDX-License-Identifier: Apache-2.0
"""Masks of what is given (section 4.2), and those that training draws.

One convention: M = 1 where content is given, 0 where it is to be generated,
and the network sees C = M * clean and M beside the noisy clip. Masks are
float32 (t h w 1).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lumiere_jax.config import MixtureConfig
from lumiere_jax.shapes import Array, Float, Key

Mask = Float[Array, "t h w 1"]


class Size(NamedTuple):
  """Frames, height and width of a clip."""

  t: int
  h: int
  w: int


def nothing(size: Size) -> Mask:
  """Nothing is given: text to video."""
  return jnp.zeros((*size, 1))


def first_frames(size: Size, count: Array | int) -> Mask:
  """The first `count` frames are given: image to video, and extending."""
  return _frames(size, jnp.arange(size.t) < count)


def both_ends(size: Size) -> Mask:
  """The first and the last frame are given."""
  frame = jnp.arange(size.t)
  return _frames(size, (frame == 0) | (frame == size.t - 1))


def outside(region: Float[Array, "#t h w 1"], size: Size) -> Mask:
  """All but the region is given: inpainting, and outpainting likewise."""
  return jnp.broadcast_to(1.0 - region, (*size, 1)).astype(jnp.float32)


def outside_after_first(region: Float[Array, "#t h w 1"], size: Size) -> Mask:
  """The first frame whole, of the others all but the region: cinemagraphs."""
  return jnp.maximum(first_frames(size, 1), outside(region, size))


def draw_mask(key: Key, size: Size, mixture: MixtureConfig) -> Mask:
  """Draws a task by its weight, and a mask of it.

  Args:
    key: a typed key; alone decides.
    size: of the clip.
    mixture: weights of the tasks.
  """
  key, *keys = jax.random.split(key, 1 + len(_DRAWS))
  weights = jnp.array([weight(mixture) for weight, _ in _DRAWS])
  masks = jnp.stack(
    [draw(k, size) for (_, draw), k in zip(_DRAWS, keys, strict=True)]
  )
  return masks[jax.random.choice(key, len(_DRAWS), p=weights / weights.sum())]


def draw_masks(
  keys: Key, shape: tuple[int, ...], mixture: MixtureConfig
) -> Float[Array, "b t h w 1"]:
  """Draws a mask for each clip of a batch of this shape (b, t, h, w, c)."""
  size = Size(*shape[1:4])
  return jax.vmap(lambda key: draw_mask(key, size, mixture))(keys)


def draw_box(key: Key, size: Size, low: float, high: float) -> Mask:
  """Draws a box that stays or, half of the time, slides through the clip.

  Args:
    key: a typed key.
    size: of the clip.
    low: least share of height and of width that it takes.
    high: largest.
  """
  side_key, place_key, move_key = jax.random.split(key, 3)
  sides = jax.random.uniform(side_key, (2,), minval=low, maxval=high)
  start, end = jax.random.uniform(place_key, (2, 2)) * (1.0 - sides)
  end = jnp.where(jax.random.bernoulli(move_key), end, start)
  time = jnp.linspace(0.0, 1.0, size.t)[:, None]
  corner = start + (end - start) * time  # (t, 2) upper left, in shares

  def inside(n, axis):
    centres = (jnp.arange(n) + 0.5) / n
    first = corner[:, axis, None]
    return (centres >= first) & (centres <= first + sides[axis])

  rows, columns = inside(size.h, 0), inside(size.w, 1)
  box = rows[:, :, None] & columns[:, None, :]
  return box[..., None].astype(jnp.float32)


def draw_blob(key: Key, size: Size) -> Float[Array, "1 h w 1"]:
  """Draws a still region of irregular outline, an eighth to a half of all."""
  noise_key, share_key = jax.random.split(key)
  coarse = jax.random.normal(noise_key, (4, 4))
  smooth = jax.image.resize(coarse, (size.h, size.w), "cubic")
  share = jax.random.uniform(share_key, minval=0.125, maxval=0.5)
  region = smooth >= jnp.quantile(smooth, 1.0 - share)
  return region[None, ..., None].astype(jnp.float32)


def _frames(size: Size, given: Array) -> Mask:
  mask = given.astype(jnp.float32).reshape(-1, 1, 1, 1)
  return jnp.broadcast_to(mask, (*size, 1))


def _draw_region(key: Key, size: Size) -> Mask:
  """A box or a blob."""
  choice, box, blob = jax.random.split(key, 3)
  return jnp.where(
    jax.random.bernoulli(choice),
    draw_box(box, size, 0.25, 0.75),
    draw_blob(blob, size),
  )


def _draw_inpainting(key: Key, size: Size) -> Mask:
  return outside(_draw_region(key, size), size)


def _draw_cinemagraph(key: Key, size: Size) -> Mask:
  return outside_after_first(_draw_region(key, size), size)


def _draw_count(key: Key, size: Size) -> Mask:
  """How many frames are given: any number but none and all."""
  return first_frames(size, jax.random.randint(key, (), 1, max(2, size.t)))


# The weight of each task, and how a mask of it is drawn.
_DRAWS: tuple[
  tuple[Callable[[MixtureConfig], float], Callable[[Key, Size], Mask]], ...
] = (
  (lambda m: m.text_to_video, lambda key, size: nothing(size)),
  (lambda m: m.image_to_video, lambda key, size: first_frames(size, 1)),
  (lambda m: m.first_last, lambda key, size: both_ends(size)),
  (lambda m: m.inpaint, _draw_inpainting),
  (lambda m: m.outpaint, lambda key, size: draw_box(key, size, 0.4, 0.8)),
  (lambda m: m.cinemagraph, _draw_cinemagraph),
  (lambda m: m.extend, _draw_count),
)
