# SPDX-License-Identifier: Apache-2.0
"""How well a clip was enlarged, beside filters that need no model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dm_pix
import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy import ndimage

from lumiere_jax.evaluation.flicker import flicker, frame_differences
from lumiere_jax.evaluation.report import Clip
from lumiere_jax.evaluation.segments import neighbour_mse, seam_strength

# Of two clips; perceptual.FeatureDistance is one.
Distance = Callable[[Clip, Clip], float]

_STRIDE = 5  # of the frames that the feature network sees: it is slow

FILTERS: Mapping[str, Image.Resampling] = {
  "bicubic": Image.Resampling.BICUBIC,
  "lanczos": Image.Resampling.LANCZOS,
}
PROTOCOL: Mapping[str, str] = {
  "low_res": "real clips, each pixel the mean of a block",
  "bicubic, lanczos": "Pillow's, frame by frame",
  "psnr_db": "of a clip's mean squared error; mean over clips",
  "ssim": "window of 11 pixels, sigma 1.5, mean over channels, frames, clips",
  "feature_distance": "EfficientNet-Lite0, five maps, unit features, every "
  f"{_STRIDE}th frame",
  "sharpness": "variance of the Laplacian of grey levels 0..255",
  "neighbour_mse": "squared difference of neighbouring frames, pixels in "
  "[0, 1], mean over clips",
  "seam_ratio": "neighbour_mse at the segments' borders over that elsewhere",
}


def filtered(
  clip: Clip, scale: int, kind: str
) -> UInt8[np.ndarray, "t high_h high_w 3"]:
  """A clip enlarged by one of FILTERS, frame by frame."""
  _, h, w, _ = clip.shape
  size = (w * scale, h * scale)
  return np.stack(
    [
      np.asarray(Image.fromarray(frame).resize(size, FILTERS[kind]))
      for frame in clip
    ]
  )


def sharpness(clip: Clip) -> float:
  """Variance of the Laplacian of grey levels 0..255, mean over frames."""
  grey = clip.astype(np.float64).mean(axis=-1)
  return float(
    np.mean([ndimage.laplace(frame, mode="nearest").var() for frame in grey])
  )


def enlargement_row(
  made: Sequence[Clip],
  real: Sequence[Clip] | None,
  borders: Sequence[int],
  distance: Distance | None,
) -> dict[str, Any]:
  """One row: PROTOCOL's measures, and flicker and frame difference.

  Args:
    made: enlarged by a model or a filter; at least one.
    real: what each was before it was made small, if that is known.
    borders: pairs of frames that are not of the same segments.
    distance: None leaves the feature distance out.
  """
  row: dict[str, Any] = {
    "sharpness": _mean(map(sharpness, made)),
    "flicker": _mean(map(flicker, made)),
    "frame_difference": _mean(frame_differences(c).mean() for c in made),
    "n": len(made),
  }
  changes = np.mean([neighbour_mse(clip) for clip in made], axis=0)
  row["neighbour_mse"] = changes.tolist()
  if seams := seam_strength(changes, borders):
    row["seam_ratio"] = seams["ratio"]
  if real is not None:
    compared: dict[str, Distance] = {
      "psnr_db": psnr,
      "ssim": ssim,
    }
    if distance is not None:
      compared["feature_distance"] = lambda a, b: distance(
        a[::_STRIDE], b[::_STRIDE]
      )
    for name, measure in compared.items():
      row[name] = _mean(map(measure, made, real))
  return row


def psnr(made: Clip, real: Clip) -> float:
  """Peak signal to noise ratio of a whole clip, in dB."""
  # One picture of all frames: its error is theirs, not its mean in dB.
  whole = (-1, *made.shape[-2:])
  return float(
    dm_pix.psnr(_unit(made).reshape(whole), _unit(real).reshape(whole))
  )


def ssim(made: Clip, real: Clip) -> float:
  """Structural similarity, mean over frames (Wang et al., 2004)."""
  return float(np.mean(dm_pix.ssim(_unit(made), _unit(real))))


def _unit(clip: Clip) -> np.ndarray:
  return clip.astype(np.float32) / 255


def _mean(values: Any) -> float:
  return float(np.mean(list(values)))
