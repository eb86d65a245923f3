# SPDX-License-Identifier: Apache-2.0
"""Which of the named colors a clip's background has, and how clean it is."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.color import rgb_to_lab
from lumiere_jax.evaluation.foreground import segment

Palette = Mapping[str, tuple[int, int, int]]
# Nearer to the sprite than this share of the frame's height its soft edge,
# shadow, or parts of the background's color may be.
MARGIN = 1 / 8


def classify_background(
  clip: UInt8[np.ndarray, "t h w 3"], palette: Palette
) -> str:
  """Names the palette colour nearest (CIELAB) to a clip's background.

  Args:
    clip: uint8 (t, h, w, 3).
    palette: name to sRGB levels 0..255.

  Raises:
    UserError: an empty palette.
  """
  return nearest_color(segment(clip).background, palette)


def nearest_color(lab: Float[np.ndarray, "3"], palette: Palette) -> str:
  """Names the palette colour nearest to a colour given in CIELAB.

  Raises:
    UserError: an empty palette.
  """
  if not palette:
    raise UserError("the palette of background colours is empty")
  names = list(palette)
  colors = rgb_to_lab(np.array([palette[n] for n in names], np.uint8))
  return names[int(np.argmin(np.linalg.norm(colors - lab, axis=-1)))]


def background_noise(
  clip: UInt8[np.ndarray, "t h w 3"], mask: Float[np.ndarray, "t h w"]
) -> float | None:
  """Deviation of a flat background from its mean color, gray levels 0..255.

  The root of the mean square over time, pixels and channels, of pixels that
  are more than MARGIN away from the sprite; a background of one color gives 0.

  Args:
    clip: the frames.
    mask: 0 where they show the background.

  Returns:
    None if no pixel is so far away.
  """
  reach = 2 * round(MARGIN * clip.shape[1]) + 1
  near = ndimage.maximum_filter(mask, size=(1, reach, reach), mode="constant")
  # In float32 the mean of so many would be off by half a level.
  pixels = clip[near == 0].astype(np.float64)
  return float(np.sqrt(pixels.var(axis=0).mean())) if len(pixels) else None
