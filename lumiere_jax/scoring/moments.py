# SPDX-License-Identifier: Apache-2.0
"""Mean and covariance of features, as they come and from several processes."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Float

DTYPE = "float64"  # Of all sums, whatever the features are.


@dataclass(frozen=True)
class Moments:
  """What a Frechet distance needs of a set of features.

  Attributes:
    count: features in it.
    mean: (d,) float64.
    scatter: (d, d) float64 sum of the outer products of what is left of each
      without the mean.
  """

  count: int
  mean: Float[np.ndarray, " d"]
  scatter: Float[np.ndarray, "d d"]

  @classmethod
  def of(cls, features: Float[np.ndarray, "n d"]) -> "Moments":
    """Of a batch.

    Raises:
      UserError: a feature is not finite.
    """
    check_finite(features)
    features = np.asarray(features, DTYPE)
    if not len(features):
      return cls(
        0, np.zeros(features.shape[1]), np.zeros(features.shape[1:] * 2)
      )
    mean = features.mean(axis=0)
    rest = features - mean
    return cls(len(features), mean, rest.T @ rest)

  @property
  def dimensions(self) -> int:
    return len(self.mean)

  @property
  def covariance(self) -> Float[np.ndarray, "d d"]:
    """Unbiased.

    Raises:
      UserError: there are fewer than two features.
    """
    if self.count < 2:
      raise UserError(f"{self.count} features have no covariance")
    return self.scatter / (self.count - 1)

  def merged(self, other: "Moments") -> "Moments":
    """Of both sets together (Chan, Golub, LeVeque 1979)."""
    if not self.count or not other.count:
      return self if self.count else other
    count = self.count + other.count
    apart = other.mean - self.mean
    return Moments(
      count,
      self.mean + apart * (other.count / count),
      self.scatter
      + other.scatter
      + np.outer(apart, apart) * (self.count * other.count / count),
    )


def check_finite(
  features: Float[np.ndarray, "n d"], what: str = "features"
) -> None:
  """Raises UserError if a feature is not a number, or infinite."""
  if not np.isfinite(features).all():
    bad = int((~np.isfinite(features).all(axis=1)).argmax())
    raise UserError(f"{what} of clip {bad} are not finite")


def merge(parts: Iterable[Moments]) -> Moments:
  """Of all parts together, in any order to within rounding."""
  return reduce(Moments.merged, parts)
