# SPDX-License-Identifier: Apache-2.0
"""Which way a sprite moves as a whole, read off its clip.

Position and size come from the foreground's moments, rotation from matching
its polar picture with those of the frames after it. Each is measured over the
whole clip, so that a sprite's own small movements average out.
"""

import numpy as np
from jaxtyping import Float, UInt8

from lumiere_jax.evaluation.foreground import Foreground, segment
from lumiere_jax.evaluation.polar import centroids, polar_resample, radii

MOVEMENTS = (
  "stays",
  "slides left",
  "slides right",
  "slides up",
  "slides down",
  "grows",
  "shrinks",
  "spins",
  "bounces",
)
HOPS = 4  # of a bounce, in a clip

# What counts as moving: a score is the measured amount over this one.
THRESHOLDS = {
  "slide": 0.14,  # way from first to last frame, in frame widths or heights
  "growth": 0.35,  # log of the size at the end over the size at the start
  "turns": 0.8,  # in a clip
  "hop": 0.035,  # amplitude of the vertical wave of HOPS periods, in heights
}

_ANGLES = 48
_RINGS = np.linspace(0.3, 2.1, 10)  # in rms radii
_LAGS = (1, 2, 3, 5, 8)  # frames between those compared
_SPEEDS = np.linspace(-4, 4, 161)  # turns per clip that are tried
_MARGIN = 0.02  # by how much turning must match better than not turning


def classify_movement(clip: UInt8[np.ndarray, "t h w 3"]) -> str:
  """Names the movement in MOVEMENTS that a clip shows.

  Args:
    clip: uint8 (t, h, w, 3); one sprite on a flat background.
  """
  return decide(movement_scores(segment(clip)))


def decide(scores: dict[str, float]) -> str:
  """Names the highest score, "stays" if none reaches 1."""
  best = max(scores, key=scores.__getitem__)
  return best if scores[best] >= 1 else "stays"


def movement_scores(foreground: Foreground) -> dict[str, float]:
  """Scores every movement but "stays"; 1 is where it counts as seen."""
  mask = foreground.mask
  _, h, w = mask.shape
  mass = mask.sum(axis=(1, 2))
  centers = centroids(mask)
  sizes = np.log(np.maximum(radii(mask, centers), 0.5))
  weights = np.sqrt(mass)
  dx = _trend(centers[:, 0] / w, weights)
  dy = _trend(centers[:, 1] / h, weights)
  growth = _trend(sizes, weights)
  turns = count_turns(foreground)
  hop = _wave(centers[:, 1] / h, weights)
  slide = THRESHOLDS["slide"]
  return {
    "slides left": -dx / slide,
    "slides right": dx / slide,
    "slides up": -dy / slide,
    "slides down": dy / slide,
    "grows": growth / THRESHOLDS["growth"],
    "shrinks": -growth / THRESHOLDS["growth"],
    "spins": abs(turns) / THRESHOLDS["turns"],
    "bounces": hop / THRESHOLDS["hop"],
  }


def _trend(
  values: Float[np.ndarray, " t"], weights: Float[np.ndarray, " t"]
) -> float:
  """Change from first to last frame along the weighted straight line."""
  time = np.linspace(-0.5, 0.5, len(values))
  total = max(float(weights.sum()), 1e-6)
  time = time - (weights @ time) / total
  spread = max(float(weights @ time**2), 1e-6)
  return float(weights @ (time * values)) / spread


def _wave(
  values: Float[np.ndarray, " t"], weights: Float[np.ndarray, " t"]
) -> float:
  """Amplitude of the part of HOPS periods, beside a straight line."""
  t = len(values)
  phase = 2 * np.pi * HOPS * np.arange(t) / t
  basis = np.stack(
    [np.ones(t), np.linspace(-1, 1, t), np.cos(phase), np.sin(phase)], axis=-1
  )
  root = np.sqrt(weights)
  fit, *_ = np.linalg.lstsq(basis * root[:, None], values * root, rcond=None)
  return float(np.hypot(fit[2], fit[3]))


def count_turns(foreground: Foreground) -> float:
  """Turns of the sprite over the clip; clockwise on screen is positive.

  Every constant speed is tried: frames some way apart, turned back by what
  that speed makes of the gap, are correlated, and the mean over all pairs is
  taken. Pairs at several gaps keep figures that look alike after part of a
  turn (stars, suns) from locking in, and no step needs unwrapping.
  """
  correlation = turn_correlation(foreground)
  still = correlation[len(_SPEEDS) // 2]
  best = int(np.argmax(correlation))
  return float(_SPEEDS[best]) if correlation[best] > still + _MARGIN else 0.0


def turn_correlation(
  foreground: Foreground,
) -> Float[np.ndarray, " speeds"]:
  """Mean correlation of frame pairs for each speed in turns a clip."""
  picture = _polar_pictures(foreground)
  spectrum = np.fft.rfft(picture, axis=2)
  t = len(picture)
  frequencies = np.arange(spectrum.shape[2])
  total = np.zeros(len(_SPEEDS))
  lags = [lag for lag in _LAGS if lag < t]
  for lag in lags:
    cross = np.einsum(
      "trfc,trfc->f", np.conj(spectrum[:-lag]), spectrum[lag:]
    ) / (t - lag)
    cross[1:-1] *= 2  # the half of the spectrum that rfft leaves out
    angles = 2 * np.pi * _SPEEDS * lag / t
    turned = np.exp(1j * np.outer(angles, frequencies))
    total += (turned @ cross).real / _ANGLES
  return total / len(lags)


def _polar_pictures(
  foreground: Foreground,
) -> Float[np.ndarray, "t r a c"]:
  """Polar pictures of unit norm: colour against the background, and mask."""
  mask = foreground.mask
  centers = centroids(mask)
  size = np.maximum(radii(mask, centers), 1.0)
  color = (foreground.lab - foreground.background) / 50
  images = np.concatenate([color * mask[..., None], mask[..., None]], axis=-1)
  picture = polar_resample(images, centers, size[:, None] * _RINGS, _ANGLES)
  picture = picture * np.sqrt(_RINGS)[None, :, None, None]
  # What is the same all around a ring says nothing of rotation.
  picture = picture - picture.mean(axis=2, keepdims=True)
  norm = np.sqrt((picture**2).sum(axis=(1, 2, 3), keepdims=True))
  return picture / np.maximum(norm, 1e-6)
