# SPDX-License-Identifier: Apache-2.0
"""How well a clip goes on from what was given of it.

Beside the clip as it really was (psnr_db is to that one), and beside what
needs no model: every pixel that is not given taken from the nearest frame in
which it is. After an image that is a still copy, after the first frames of a
clip the last of them held; where a pixel is never given, the nearest one in
space takes its place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from lumiere_jax.evaluation.background import Palette
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.report import Clip, Labels, measure, summarize
from lumiere_jax.evaluation.retrieval import Gallery

# A pixel aside is further than any number of frames.
_PIXEL = 1e4
PARTS = 3  # of a clip, in which its object is looked for


@dataclass(frozen=True, kw_only=True)
class Continuation:
  """A clip that a model has made around what was given of it.

  Attributes:
    made: the clip.
    real: the clip that the given part was taken from.
    given: the pixels that were given; of any value where none were.
    mask: true where they were.
    labels: what the clip was asked to show.
  """

  made: Clip
  real: Clip
  given: Clip
  mask: Bool[np.ndarray, "t h w 1"]
  labels: Labels


def nearest_fill(given: Clip, mask: Bool[np.ndarray, "t h w 1"]) -> Clip:
  """Fills a clip with the given pixel that is nearest in time, or in space.

  Args:
    given: uint8 (t, h, w, 3).
    mask: true where it was given, somewhere.
  """
  _, nearest = ndimage.distance_transform_edt(
    ~mask[..., 0], sampling=(1, _PIXEL, _PIXEL), return_indices=True
  )
  return given[tuple(nearest)]


def continuation_row(
  trials: Sequence[Continuation], gallery: Gallery, palette: Palette
) -> dict[str, Any]:
  """One row: as `report.summarize`, and what tells of the given part.

  given_exact        share of clips whose given pixels came out as given
  object_r1_along    R@1 in each third of the clip
  psnr_db            of what was made, and of the fill, to the real clip; of
                     the error of all clips together
  closer_than_fill   share of clips in which what was made has less error
  motion             mean |x[t+1] - x[t]| in grey levels, of pixels not given in
                     both frames (made, fill, real) and of those given in both
  fill               accuracies of the fill

  Args:
    trials: at least one.
    gallery: as for `report.measure`.
    palette: likewise.
  """
  fills = [nearest_fill(t.given, t.mask) for t in trials]
  errors = np.array(
    [
      [_error(clip, trial) for clip in (trial.made, fill)]
      for trial, fill in zip(trials, fills, strict=True)
    ]
  )
  along = [_object_along(t, gallery) for t in trials]
  row = _accuracies([t.made for t in trials], trials, gallery, palette)
  filled = _accuracies(fills, trials, gallery, palette)
  motions = [_motions(t, fill) for t, fill in zip(trials, fills, strict=True)]
  return row | {
    "given_exact": float(np.mean([_is_exact(t) for t in trials])),
    "object_r1_along": np.mean(along, axis=0).tolist(),
    "psnr_db": dict(
      zip(("made", "fill"), map(_psnr, errors.mean(axis=0)), strict=True)
    ),
    "closer_than_fill": float(np.mean(errors[:, 0] < errors[:, 1])),
    "motion": {name: _mean([m[name] for m in motions]) for name in motions[0]},
    "fill": {
      name: filled[name]
      for name in ("background_accuracy", "movement_accuracy", "object_r1")
    },
  }


def _accuracies(
  clips: Sequence[Clip],
  trials: Sequence[Continuation],
  gallery: Gallery,
  palette: Palette,
) -> dict[str, Any]:
  return summarize(
    [
      (measure(clip, gallery, palette), trial.labels)
      for clip, trial in zip(clips, trials, strict=True)
    ]
  )


def _error(clip: Clip, trial: Continuation) -> float:
  """Mean squared error of what was not given, in grey levels squared."""
  difference = clip.astype(np.float64) - trial.real
  return float((difference[~trial.mask[..., 0]] ** 2).mean())


def _psnr(error: float) -> float | None:
  """Peak signal to noise ratio in dB; None without any error."""
  return 10 * math.log10(255**2 / error) if error else None


def _is_exact(trial: Continuation) -> bool:
  mask = trial.mask[..., 0]
  return bool((trial.made[mask] == trial.given[mask]).all())


def _object_along(
  trial: Continuation, gallery: Gallery
) -> Bool[np.ndarray, " parts"]:
  """Whether the object ranks first in each part of the clip."""
  foreground = segment(trial.made)
  parts = np.array_split(np.arange(len(trial.made)), PARTS)
  return np.array(
    [
      gallery.rank(foreground.frames(part.tolist()))[0] == trial.labels.object
      for part in parts
    ]
  )


def _motions(trial: Continuation, fill: Clip) -> dict[str, float | None]:
  """Motion of what was not given, and of pixels given in both of two frames."""
  still = (trial.mask[1:] & trial.mask[:-1])[..., 0]
  return {
    "made": _motion(trial.made, ~still),
    "fill": _motion(fill, ~still),
    "real": _motion(trial.real, ~still),
    "given": _motion(trial.made, still),
  }


def _motion(clip: Clip, where: Bool[np.ndarray, "pairs h w"]) -> float | None:
  """Mean difference of neighbouring frames there; None if there is nothing."""
  steps = np.abs(np.diff(clip.astype(np.float64), axis=0)).mean(axis=-1)
  return float(steps[where].mean()) if where.any() else None


def _mean(values: Sequence[float | None]) -> float | None:
  there = [v for v in values if v is not None]
  return sum(there) / len(there) if there else None
