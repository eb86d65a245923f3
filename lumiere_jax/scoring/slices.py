# SPDX-License-Identifier: Apache-2.0
"""X-T slices: one row of a clip over time, and how periodic a clip is."""

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Float, UInt8

# Frames of a clip that can have a period.
SHORTEST = 4


def xt_slice(
  clip: UInt8[np.ndarray, "t h w 3"], row: int | None = None
) -> UInt8[np.ndarray, "t w 3"]:
  """One row of pixels over time, downwards (the paper's Fig. 2).

  Args:
    clip: frames.
    row: from the top; the middle one if not given.

  Raises:
    UserError: the clip has no such row.
  """
  height = clip.shape[1]
  row = height // 2 if row is None else row
  if not 0 <= row < height:
    raise UserError(f"row {row} is not one of a clip's 0 to {height - 1}")
  return clip[:, row]


def periodicity(
  clip: UInt8[np.ndarray, "t h w 3"], longest: int | None = None
) -> tuple[float, int]:
  """How much a clip repeats itself, and after how many frames.

  The mean squared difference of frames so far apart, divided by its mean over
  all distances; one less the least value behind the first maximum. 1 is a clip
  that comes back to the same pixels, 0 one that never comes nearer again than
  frames are in the mean, or that does not move.

  Args:
    clip: at least four frames.
    longest: distance that is looked at, in frames; half of the clip if not
      given.

  Returns:
    The score from 0 to 1, and the period in frames, 0 where there is none.

  Raises:
    UserError: the clip is shorter than four frames.
  """
  frames = len(clip)
  if frames < SHORTEST:
    raise UserError(f"a clip of {frames} frames is too short for a period")
  apart = _differences(clip.reshape(frames, -1), longest or frames // 2)
  mean = apart[1:].mean()
  if mean == 0:
    return 0.0, 0
  # Behind the rise that every movement begins with.
  rise = np.flatnonzero(np.diff(apart) < 0)
  if not len(rise):
    return 0.0, 0
  start = int(rise[0]) + 1
  period = start + int(apart[start:].argmin())
  return float(max(0.0, 1 - apart[period] / mean)), period


def _differences(
  pixels: UInt8[np.ndarray, "t n"], longest: int
) -> Float[np.ndarray, " distances"]:
  """Mean squared difference of frames 0, 1, ... `longest` apart."""
  pixels = pixels.astype(np.float32)
  return np.array(
    [0.0]
    + [
      float(np.square(pixels[lag:] - pixels[:-lag]).mean())
      for lag in range(1, longest + 1)
    ]
  )
