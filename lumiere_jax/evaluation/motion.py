# SPDX-License-Identifier: Apache-2.0
"""Which way a sprite moves as a whole, how fast, and how large it is.

Position and size come from the foreground's moments, rotation from its polar
pictures. Each is measured over the whole clip, so that a sprite's own small
movements average out.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from lumiere_jax.evaluation.foreground import Foreground, segment
from lumiere_jax.evaluation.polar import centroids, radii
from lumiere_jax.evaluation.turning import find_turning, rates
from lumiere_jax.movements import SECONDS, SLIDES

# What counts as moving: a score is the measured amount over this one.
THRESHOLDS = {
  "slide": 0.14,  # way from first to last frame, in frame widths or heights
  "growth": 0.35,  # log of the size at the end over the size at the start
  "turning": 0.25,  # excess of what turns (turning.Turning.score)
  "hop": 0.08,  # amplitude of the vertical wave beyond the horizontal one
}
_LEAST_HOPS = 1.3  # in a clip


@dataclass(frozen=True)
class Motions:
  """How much a clip shows of every movement.

  Attributes:
    scores: of every movement but "stays"; 1 is where it counts as seen.
    rates: of those that have one, a second: turns of "spins", hops of
      "bounces". Whether it spins or bounces at all is what scores say.
  """

  scores: dict[str, float]
  rates: dict[str, float]


def classify_movement(clip: UInt8[np.ndarray, "t h w 3"]) -> str:
  """Names the movement that a clip shows, of MOVEMENTS or COMBINED.

  Args:
    clip: uint8 (t, h, w, 3); one sprite on a flat background.
  """
  return decide(measure_motions(segment(clip)).scores)


def decide(scores: Mapping[str, float]) -> str:
  """Names the highest score, "stays" if none reaches 1."""
  best = max(scores, key=scores.__getitem__)
  return best if scores[best] >= 1 else "stays"


def nearest_name(values: Mapping[str, float], amount: float) -> str:
  """The key of the value that is nearest to an amount by its logarithm."""
  log = math.log(max(amount, 1e-6))
  return min(values, key=lambda name: abs(math.log(values[name]) - log))


def measure_motions(foreground: Foreground) -> Motions:
  """Measures every movement.

  The score of a combined one is the product of its two scores: more than
  either where both count as seen, less than the larger one where one does not.

  Args:
    foreground: of a clip that lasts SECONDS.
  """
  mask = foreground.mask
  _, h, w = mask.shape
  centers = centroids(mask)
  sizes = np.log(np.maximum(radii(mask, centers), 0.5))
  places = centers / np.array([w, h])
  weights = np.sqrt(mask.sum(axis=(1, 2)))
  dx, dy = (_trend(values, weights) for values in places.T)
  growth = _trend(sizes, weights) / THRESHOLDS["growth"]
  turning = find_turning(foreground)
  hops, hop = _hops(places, weights)
  ways = dict(zip(SLIDES, (-dx, dx, -dy, dy), strict=True))
  slides = {name: way / THRESHOLDS["slide"] for name, way in ways.items()}
  scores = slides | {
    "grows": growth,
    "shrinks": -growth,
    "spins": turning.score / THRESHOLDS["turning"],
    "bounces": hop / THRESHOLDS["hop"],
  }
  for name, score in slides.items():
    scores[f"{name} growing"] = max(score, 0.0) * max(growth, 0.0)
  return Motions(
    scores,
    {"spins": abs(turning.turns) / SECONDS, "bounces": hops / SECONDS},
  )


def _trend(
  values: Float[np.ndarray, " t"], weights: Float[np.ndarray, " t"]
) -> float:
  """Change from first to last frame along the weighted straight line."""
  time = np.linspace(-0.5, 0.5, len(values))
  total = max(float(weights.sum()), 1e-6)
  time = time - (weights @ time) / total
  spread = max(float(weights @ time**2), 1e-6)
  return float(weights @ (time * values)) / spread


def _hops(
  places: Float[np.ndarray, "t 2"], weights: Float[np.ndarray, " t"]
) -> tuple[float, float]:
  """Hops in a clip, and how high: the wave of (x, y) along y.

  Of all rates the one whose wave explains most of y apart from a straight
  line. What turns off its center waves along x as much as along y, so the
  amplitude along x is taken off.
  """
  tried = rates(len(places), _LEAST_HOPS)
  if not len(tried):
    return 0.0, 0.0
  time = np.linspace(0, 1, len(places))
  root = np.sqrt(weights)
  line = np.stack([np.ones_like(time), time], axis=-1)
  line, _ = np.linalg.qr(line * root[:, None])
  phase = 2 * np.pi * np.outer(tried, time)
  waves = np.stack([np.cos(phase), np.sin(phase)], axis=1) * root
  waves = waves - (waves @ line) @ line.T
  values = places * root[:, None]
  values = values - line @ (line.T @ values)
  gram = waves @ waves.swapaxes(1, 2) + 1e-9 * np.eye(2)
  along = waves @ values
  waves_xy = np.linalg.solve(gram, along)
  explained = (waves_xy * along)[..., 1].sum(axis=1)
  best = int(np.argmax(explained))
  wide, high = np.sqrt((waves_xy[best] ** 2).sum(axis=0))
  return float(tried[best]), float(high - wide)
