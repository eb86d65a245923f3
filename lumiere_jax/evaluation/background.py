# SPDX-License-Identifier: Apache-2.0
"""Which of the named colours a clip's background has."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, UInt8

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.color import rgb_to_lab
from lumiere_jax.evaluation.foreground import segment

Palette = Mapping[str, tuple[int, int, int]]


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
