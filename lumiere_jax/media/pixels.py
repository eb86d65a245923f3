# SPDX-License-Identifier: Apache-2.0
"""Pixels at the edge of the program: the one conversion."""

from typing import Any

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import AnyArray, Float, Shaped, UInt8

Clip = UInt8[np.ndarray, "t h w 3"]


def to_uint8(x: Float[AnyArray, "..."]) -> UInt8[np.ndarray, "..."]:
  """Rounds pixels in [-1, 1] to uint8 on the host, clipping what lies outside.

  Args:
    x: numpy or jax array of any shape; half-way values go to the even number.

  Raises:
    UserError: a value is not finite.
  """
  x = np.asarray(x).astype(np.float32)
  bad = x.size - np.count_nonzero(np.isfinite(x))
  if bad:
    raise UserError(f"{bad} of {x.size} pixels are not finite")
  return np.round((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)


def to_float(x: Shaped[AnyArray, "..."]) -> Float[AnyArray, "..."]:
  """Maps uint8 pixels to float32 in [-1, 1]; `to_uint8` inverts it exactly.

  Args:
    x: numpy or jax array of uint8, any shape; traced arrays too.

  Raises:
    UserError: the array is not uint8.
  """
  if x.dtype != np.uint8:
    raise UserError(f"pixels to convert must be uint8, got {x.dtype}")
  return x.astype(np.float32) / 127.5 - 1


def check_clip(clip: Clip) -> Clip:
  """Returns the clip. Raises UserError if it is empty."""
  if not clip.size:
    raise UserError(f"the clip is empty: shape {clip.shape}")
  return clip


def import_av() -> Any:
  """PyAV, imported when it is needed.

  Raises:
    UserError: it is not installed.
  """
  try:
    import av
  except ImportError as e:
    raise UserError("video files need PyAV: pip install av") from e
  return av
