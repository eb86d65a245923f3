# SPDX-License-Identifier: Apache-2.0
"""Whether a clip that was made in segments shows where they meet (Fig. 14)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8


def neighbour_mse(
  clip: UInt8[np.ndarray, "t h w c"],
) -> Float[np.ndarray, " pairs"]:
  """Mean squared difference of neighbouring frames, pixels in [0, 1]."""
  values = clip.astype(np.float64) / 255
  return (np.diff(values, axis=0) ** 2).mean(axis=(1, 2, 3))


def segment_borders(
  num_frames: int, starts: Sequence[int], size: int
) -> list[int]:
  """Pairs (i, i + 1) of frames that are not of the same segments.

  Args:
    num_frames: of the clip.
    starts: first frame of each segment.
    size: of a segment.
  """
  edges = {s for s in starts} | {s + size for s in starts}
  return sorted(e - 1 for e in edges if 0 < e < num_frames)


def seam_strength(
  changes: Float[np.ndarray, " pairs"], borders: Sequence[int]
) -> dict[str, float] | None:
  """The change between frames at segments' borders, and elsewhere.

  None if there are no borders, or nothing else.

  Args:
    changes: `neighbour_mse` of a clip, or its mean over several.
    borders: as `segment_borders` tells them.

  Returns:
    border_mse: mean over the borders of the squared difference of both frames.
    other_mse: the same over all other pairs.
    ratio: the first over the second; about 1 where no seam is to be seen.
  """
  at = np.zeros(len(changes), bool)
  at[list(borders)] = True
  if at.all() or not at.any():
    return None
  border, other = float(changes[at].mean()), float(changes[~at].mean())
  return {
    "border_mse": border,
    "other_mse": other,
    "ratio": border / max(other, 1e-12),
  }
