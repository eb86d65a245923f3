# SPDX-License-Identifier: Apache-2.0
"""What answers say: a preference, how sure it is, how many would do."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Float, Int


@dataclasses.dataclass(frozen=True)
class Vote:
  """One answer.

  Attributes:
    rater: who gave it.
    prompt: of the pair.
    question: that was asked.
    first: whether the first method was preferred.
  """

  rater: str
  prompt: str
  question: str
  first: bool


@dataclasses.dataclass(frozen=True)
class Preference:
  """Of one question.

  Attributes:
    share: of votes for the first method.
    low, high: of its interval.
    votes, raters, prompts: how many.
    design_effect: variance of the share over that of as many votes that do not
      depend on each other.
  """

  share: float
  low: float
  high: float
  votes: int
  raters: int
  prompts: int
  design_effect: float

  @property
  def decided(self) -> bool:
    """Whether the interval leaves 50% out."""
    return self.low > 0.5 or self.high < 0.5


def preference(
  votes: Sequence[Vote],
  *,
  rounds: int = 2000,
  level: float = 0.95,
  seed: int = 0,
) -> Preference:
  """The share of votes for the first method.

  Votes of one rater, or on one prompt, are not taken for independent ones. The
  variance is that of a bootstrap over raters, plus that of one over prompts,
  less that of one over votes, which both have in them (Cameron, Gelbach and
  Miller 2011); the interval is never narrower than Wilson's of independent
  votes. One rater, or one prompt, says nothing of others: from 0 to 1.

  Args:
    votes: on one question.
    rounds: of the bootstrap.
    level: of confidence.
    seed: of what is drawn.

  Raises:
    UserError: there are no votes.
  """
  if not votes:
    raise UserError("there are no votes")
  first = np.array([vote.first for vote in votes], float)
  rng = np.random.default_rng(seed)
  raters, rater = _numbered([vote.rater for vote in votes])
  prompts, prompt = _numbered([vote.prompt for vote in votes])
  share = float(first.mean())
  alone = share * (1 - share) / len(votes)
  variance = (
    _variance(first, rater, raters, rounds, rng)
    + _variance(first, prompt, prompts, rounds, rng)
    - alone
  )
  variance = max(variance, alone)
  half = _quantile(1 - (1 - level) / 2) * math.sqrt(variance)
  least = wilson(int(first.sum()), len(votes), level)
  if min(raters, prompts) < 2:
    least = (0.0, 1.0)
  return Preference(
    share=share,
    low=max(0.0, min(share - half, least[0])),
    high=min(1.0, max(share + half, least[1])),
    votes=len(votes),
    raters=raters,
    prompts=prompts,
    design_effect=variance / alone if alone else 1.0,
  )


def _variance(
  first: Float[np.ndarray, " votes"],
  cluster: Int[np.ndarray, " votes"],
  clusters: int,
  rounds: int,
  rng: np.random.Generator,
) -> float:
  """Of the share, when clusters are drawn with replacement."""
  shares = []
  while len(shares) < rounds:
    weight = rng.multinomial(clusters, [1 / clusters] * clusters)[cluster]
    if total := weight.sum():
      shares.append(float((weight * first).sum() / total))
  return float(np.var(shares))


def _numbered(names: Sequence[str]) -> tuple[int, np.ndarray]:
  found, index = np.unique(names, return_inverse=True)
  return len(found), index


def wilson(hits: int, total: int, level: float = 0.95) -> tuple[float, float]:
  """Interval of a share of independent votes (Wilson 1927)."""
  z = _quantile(1 - (1 - level) / 2)
  share, step = hits / total, z * z / total
  middle = (share + step / 2) / (1 + step)
  half = z * math.sqrt(share * (1 - share) / total + step / (4 * total))
  half /= 1 + step
  return middle - half, middle + half


def votes_needed(
  share: float,
  *,
  design_effect: float = 1.0,
  power: float = 0.8,
  level: float = 0.95,
) -> int:
  """Votes that tell a preference of `share` from 50%, two-sided.

  Args:
    share: the true one.
    design_effect: of votes that depend on each other, as `preference` finds it.
    power: how often it shall be found.
    level: of confidence.

  Raises:
    UserError: the share is 50%, or not in (0, 1).
  """
  if not 0 < share < 1 or share == 0.5:
    raise UserError(f"a share of {share} can never be told from 0.5")
  z, y = _quantile(1 - (1 - level) / 2), _quantile(power)
  spread = z * 0.5 + y * math.sqrt(share * (1 - share))
  return math.ceil((spread / abs(share - 0.5)) ** 2 * design_effect)


def power_table(
  shares: Sequence[float] = (0.52, 0.55, 0.6, 0.65, 0.7, 0.8),
  design_effect: float = 1.0,
) -> dict[float, int]:
  """Votes needed for each true share."""
  return {
    share: votes_needed(share, design_effect=design_effect) for share in shares
  }


def _quantile(probability: float) -> float:
  from statistics import NormalDist

  return NormalDist().inv_cdf(probability)
