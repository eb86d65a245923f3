# SPDX-License-Identifier: Apache-2.0
"""How what was made fits what was given, in grey levels (0 to 255)."""

import numpy as np

from lumiere_jax.shapes import VideoU8


def seam_report(pixels: VideoU8, mask: np.ndarray) -> dict[str, float | None]:
  """Measures the border between given and made, and the drift of colour.

  Args:
    pixels: uint8 (t, h, w, 3).
    mask: bool (t, h, w, 1), true where it was given.

  Returns:
    None where there is no such pair of neighbours.
    border_in_space: mean difference of neighbouring pixels of a frame, one of
      them given and one made.
    made_in_space: the same where both are made.
    border_in_time: mean difference of a pixel to itself one frame on, given in
      one of both.
    made_in_time: the same where it is made in both.
    color_drift: largest difference, over frames, of the mean colour of what is
      made there from the mean colour of all that was given.
  """
  values = pixels.astype(np.float64)
  report: dict[str, float | None] = {}
  for name, axes in (("space", (1, 2)), ("time", (0,))):
    pairs = [_neighbours(values, mask, axis) for axis in axes]
    difference = np.concatenate([d for d, _ in pairs])
    given = np.concatenate([g for _, g in pairs])
    report[f"border_in_{name}"] = _mean(difference[given == 1])
    report[f"made_in_{name}"] = _mean(difference[given == 0])
  of_given = values[mask[..., 0]].mean(0)
  drifts = [
    np.abs(frame[~given[..., 0]].mean(0) - of_given).max()
    for frame, given in zip(values, mask, strict=True)
    if not given.all()
  ]
  return report | {"color_drift": float(max(drifts))}


def _neighbours(
  values: np.ndarray, mask: np.ndarray, axis: int
) -> tuple[np.ndarray, np.ndarray]:
  """Difference of all neighbours along an axis, and how many are given."""
  length = values.shape[axis]
  first, second = np.arange(length - 1), np.arange(1, length)
  difference = np.abs(values.take(second, axis) - values.take(first, axis))
  given = mask.take(first, axis).astype(int) + mask.take(second, axis)
  return difference.mean(-1).ravel(), given.ravel()


def _mean(x: np.ndarray) -> float | None:
  return float(x.mean()) if x.size else None
