# SPDX-License-Identifier: Apache-2.0
"""How fast a sprite turns, and whether it does.

A picture that turns by an angle a has the Fourier coefficients around its
center F_k turned by k a. So for every rate all frames are turned back, and
the share of their power that the mean of them keeps is compared with what the
mean of the frames as they are keeps. The lowest coefficients alone are taken:
blur, which generated clips show above all where something turns, leaves them.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Complex, Float

from lumiere_jax.evaluation.foreground import Foreground
from lumiere_jax.evaluation.polar import centroids, polar_resample, radii

_ANGLES = 48
_RINGS = np.linspace(0.3, 2.1, 10)  # in rms radii
_FREQUENCIES = np.arange(1, 5)  # around the center
_STEPS = 10  # rates that are tried between n and n + 1 turns
_LEAST_TURNS = 0.9  # in a clip; less, and one swing to and fro looks like it
_LEAST_SHARE = 0.05  # of the power, to speak of turning at all


class Turning(NamedTuple):
  """How a sprite turns.

  Attributes:
    turns: from the first to the last frame; clockwise on screen is positive.
    score: 1 if all of its picture turns, 0 if nothing turns one way more than
      the other.
  """

  turns: float
  score: float


def rates(num_frames: int, least: float) -> Float[np.ndarray, " rates"]:
  """Cycles in a clip that are looked for, from `least` to 18.

  At most a quarter of a cycle a frame: faster ones look like slower ones.
  """
  most = min(18.0, (num_frames - 1) / 4)
  return np.arange(round(_STEPS * least), _STEPS * most + 0.5) / _STEPS


def find_turning(foreground: Foreground) -> Turning:
  """Finds the constant rate that explains a clip's pictures best.

  The score is (P(s) - P(-s)) / (P(s) + P(0)), where P(s) is the share of power
  that turns with rate s (`turning_shares`). What stands still has P(0), what
  rocks has P(-s) as much as P(s).
  """
  tried = rates(len(foreground.mask), _LEAST_TURNS)
  if not len(tried):
    return Turning(0.0, 0.0)
  turns = np.concatenate([-tried[::-1], [0], tried])
  shares = turning_shares(_spectrum(foreground), turns)
  excess = shares - shares[::-1]
  best = int(np.argmax(excess))
  score = excess[best] / max(shares[best] + shares[len(tried)], 1e-6)
  enough = shares[best] > _LEAST_SHARE
  return Turning(float(turns[best]), float(score) if enough else 0.0)


def turning_shares(
  spectrum: Complex[np.ndarray, "t d k"], turns: Float[np.ndarray, " rates"]
) -> Float[np.ndarray, " rates"]:
  """Share of a clip's power that turns with each rate; 0 is noise, 1 all.

  Args:
    spectrum: Fourier coefficients around the center, for each frame.
    turns: rates, in turns from the first to the last frame, multiples of
      1 / _STEPS.
  """
  t = len(spectrum)
  length = _STEPS * max(1, t - 1)
  steps = np.rint(turns * _STEPS).astype(np.int64)
  power = (np.abs(spectrum) ** 2).sum(axis=(0, 1))
  weights = power / _FREQUENCIES
  shares = np.zeros(len(turns))
  # The sum of frames turned back is a Fourier sum over time as well.
  sums = (np.abs(np.fft.fft(spectrum, length, axis=0)) ** 2).sum(axis=1)
  for i, frequency in enumerate(_FREQUENCIES):
    kept = sums[-frequency * steps % length, i] / max(power[i], 1e-9)
    # The mean of t frames that have nothing in common keeps 1 / t.
    shares += weights[i] * (kept - 1) / max(1, t - 1)
  return np.maximum(shares / max(weights.sum(), 1e-9), 0)


def _spectrum(foreground: Foreground) -> Complex[np.ndarray, "t d k"]:
  """Fourier coefficients around the centroid of frames of equal power."""
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
  picture = picture / np.maximum(norm, 1e-6)
  spectrum = np.fft.rfft(picture, axis=2)[:, :, _FREQUENCIES]
  return spectrum.swapaxes(2, 3).reshape(len(mask), -1, len(_FREQUENCIES))
