# SPDX-License-Identifier: Apache-2.0
"""How sure a score is, and what it would be of infinitely many clips."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Float

# Of two sets: of features, or of the numbers of clips.
Score = Callable[[np.ndarray, np.ndarray], float]

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Interval(NamedTuple):
  """From low to high, with the level of confidence."""

  low: float
  high: float
  level: float


def bootstrap(
  score: Score,
  real: np.ndarray,
  made: np.ndarray,
  *,
  biased: bool,
  rounds: int = 200,
  level: float = 0.95,
  seed: int = 0,
) -> Interval:
  """Where the distance of infinitely many clips lies (basic bootstrap).

  Both sets are drawn anew, with replacement, which moves any distance up. A
  Frechet distance moves by about as much as few clips did in the first place:
  the interval, mirrored at the score, takes both back (Davison and Hinkley
  1997, section 5.2), so that it may lie below the score. Of a score that few
  clips do not move it is laid around the score.

  Args:
    score: of two sets.
    real: all real ones, along the first axis.
    made: all generated ones.
    biased: whether few clips move the score.
    rounds: how often sets are drawn.
    level: of confidence.
    seed: of what is drawn.

  Raises:
    UserError: fewer than 20 rounds, or the level is not between 0 and 1.
  """
  _check_bootstrap(rounds, level)
  rng = np.random.Generator(np.random.PCG64(seed))
  found = [
    score(
      real[rng.integers(len(real), size=len(real))],
      made[rng.integers(len(made), size=len(made))],
    )
    for _ in range(rounds)
  ]
  tail = (1 - level) / 2
  low, high = map(float, np.quantile(found, [tail, 1 - tail]))
  center, moved = score(real, made), float(np.mean(found))
  if biased:
    center = 2 * center - moved
  return Interval(center - (high - moved), center - (low - moved), level)


def mean_interval(
  values: Float[np.ndarray, " n"],
  *,
  rounds: int = 200,
  level: float = 0.95,
  seed: int = 0,
) -> Interval:
  """Where the mean of infinitely many values lies (percentile bootstrap).

  Args:
    values: one of each clip.
    rounds: how often they are drawn anew, with replacement.
    level: of confidence.
    seed: of what is drawn.
  """
  _check_bootstrap(rounds, level)
  rng = np.random.Generator(np.random.PCG64(seed))
  n = len(values)
  means = [float(values[rng.integers(n, size=n)].mean()) for _ in range(rounds)]
  tail = (1 - level) / 2
  low, high = map(float, np.quantile(means, [tail, 1 - tail]))
  return Interval(low, high, level)


def _check_bootstrap(rounds: int, level: float) -> None:
  if rounds < 20:
    raise UserError(f"{rounds} bootstrap rounds are fewer than 20")
  if not 0 < level < 1:
    raise UserError(f"a level of confidence of {level} is not in (0, 1)")


def extrapolate(
  score: Score,
  real: np.ndarray,
  made: np.ndarray,
  *,
  shares: Sequence[float] = SHARES,
  repeats: int = 10,
  seed: int = 0,
) -> float:
  """What a score would be of infinitely many clips.

  The bias of a Frechet distance falls as one over the number of clips: a line
  through the scores of parts of both sets, over one by their share, is taken at
  zero (arXiv 1911.07023, of real clips too).

  Args:
    score: of two sets.
    real: all features of real clips.
    made: all features of generated ones.
    shares: of the sets, drawn without replacement.
    repeats: draws of each share.
    seed: of what is drawn.

  Raises:
    UserError: fewer than two shares, or one that is not in (0, 1].
  """
  if len(set(shares)) < 2 or not all(0 < share <= 1 for share in shares):
    raise UserError(f"shares {tuple(shares)} are not two or more of (0, 1]")
  rng = np.random.Generator(np.random.PCG64(seed))
  x, y = [], []
  for share in shares:
    for _ in range(1 if share == 1 else repeats):
      parts = [_part(features, share, rng) for features in (real, made)]
      x.append(1 / share)
      y.append(score(*parts))
  # Each share weighs the same, however often it was drawn.
  weights = [1 / np.sqrt(x.count(value)) for value in x]
  return float(np.polyfit(x, y, 1, w=weights)[1])


def _part(
  features: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
  count = round(share * len(features))
  return features[rng.permutation(len(features))[:count]]
