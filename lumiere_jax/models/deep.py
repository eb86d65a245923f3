# SPDX-License-Identifier: Apache-2.0
"""What the coarse levels of the network hand to the fine ones."""

import jax
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig


def deep_shape(
  cfg: UNetConfig, shape: tuple[int, ...], level: int
) -> jax.ShapeDtypeStruct:
  """The feature that a level hands to the next finer one, of one sample.

  Args:
    cfg: of the network.
    shape: of the sample, (t, h, w, c) or (h, w, c).
    level: 1 is the one below the finest.
  """
  *frames, h, w, _ = shape
  stride = 2 ** (level - 1)
  if cfg.temporal is not None and cfg.temporal.resample:
    frames = [t // stride for t in frames]
  pixels = [size // (stride * cfg.patch_size) for size in (h, w)]
  return jax.ShapeDtypeStruct(
    (*frames, *pixels, cfg.block_out_channels[level]), jnp.dtype(cfg.dtype)
  )
