# SPDX-License-Identifier: Apache-2.0
"""How much a clip changes from frame to frame, and how much of it flickers.

All in grey levels 0..255, averaged over channels. A movement also changes
pixels, so these numbers mean something beside those of real clips only.
"""

import numpy as np
from jaxtyping import Float, UInt8

from lumiere_jax.errors import UserError


def frame_differences(
  clip: UInt8[np.ndarray, "t h w c"],
) -> Float[np.ndarray, " pairs"]:
  """Mean absolute difference of each pair of neighbouring frames.

  Raises:
    UserError: fewer than two frames.
  """
  return np.abs(_steps(clip, 1)).mean(axis=(1, 2, 3))


def flicker(
  clip: UInt8[np.ndarray, "t h w c"],
  mask: Float[np.ndarray, "t h w"] | None = None,
) -> float:
  """Mean of |x[t-1] - 2 x[t] + x[t+1]| / 2, what is left of steady change.

  Zero for a still clip and for steady brightening; a pixel that jumps to and
  fro by d counts d.

  Args:
    clip: the frames.
    mask: weight of each pixel, as the sprite's soft mask; None weighs all
      alike. A pixel counts as much as the least of its three frames; with no
      weight at all the result is 0.

  Raises:
    UserError: fewer than three frames.
  """
  jumps = np.abs(np.diff(_steps(clip, 2), axis=0)).mean(axis=-1) / 2
  if mask is None:
    return float(jumps.mean())
  weight = np.minimum(np.minimum(mask[:-2], mask[1:-1]), mask[2:])
  total = float(weight.sum())
  return float((jumps * weight).sum()) / total if total else 0.0


def _steps(clip: np.ndarray, least: int) -> Float[np.ndarray, "pairs h w c"]:
  if len(clip) <= least:
    raise UserError(f"a clip of {len(clip)} frames is too short to compare")
  return np.diff(np.asarray(clip).astype(np.float32), axis=0)
