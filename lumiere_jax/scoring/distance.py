# SPDX-License-Identifier: Apache-2.0
"""How far two sets of features are apart."""

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.scoring.moments import DTYPE, Moments, check_finite
from lumiere_jax.shapes import Float, Int

Features = Float[np.ndarray, "_ _"]


def frechet_distance(real: Moments, made: Moments) -> float:
  """Squared Frechet distance of two normal distributions.

  |m - n|^2 + tr(S) + tr(T) - 2 tr((S T)^1/2) (Dowson and Landau 1982), which
  FID and FVD are of features (arXiv 1706.08500, 1812.01717). The trace of the
  root is the sum of the roots of the eigenvalues of S^1/2 T S^1/2, which is
  symmetric: nothing is added to the diagonal, and no part is imaginary.

  Raises:
    UserError: the features are not as wide, or fewer than two.
  """
  if real.dimensions != made.dimensions:
    raise UserError(
      f"features of {real.dimensions} and of {made.dimensions} dimensions "
      "cannot be compared"
    )
  s, t = real.covariance, made.covariance
  values, vectors = np.linalg.eigh(s)
  root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
  inner = root @ t @ root
  shared = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(0)).sum()
  apart = real.mean - made.mean
  return float(apart @ apart + np.trace(s) + np.trace(t) - 2 * shared)


def frechet_of(real: Features, made: Features) -> float:
  """`frechet_distance` of the moments of two sets of features.

  Of fewer clips than dimensions it is found among the clips: with A and B the
  features without their means, over the roots of their degrees of freedom, the
  trace of the root is the sum of the singular values of A B^T.

  Raises:
    UserError: as `frechet_distance`, or a feature is not finite.
  """
  clips, dimensions = min(len(real), len(made)), real.shape[1]
  if clips < 2 or clips > dimensions or made.shape[1] != dimensions:
    return frechet_distance(Moments.of(real), Moments.of(made))
  means, rest = [], []
  for features in (real, made):
    check_finite(features)
    features = np.asarray(features, DTYPE)
    means.append(features.mean(axis=0))
    rest.append((features - means[-1]) / np.sqrt(len(features) - 1))
  apart = means[0] - means[1]
  traces = sum(float(np.square(part).sum()) for part in rest)
  shared = np.linalg.svd(rest[0] @ rest[1].T, compute_uv=False).sum()
  return float(apart @ apart + traces - 2 * shared)


def kernel_distance(real: Features, made: Features) -> float:
  """Unbiased squared maximum mean discrepancy (KID, arXiv 1801.01401).

  Of the kernel (x.y / d + 1)^3. Its expectation does not depend on how many
  there are, so that it is for few clips; it can be below zero.

  Raises:
    UserError: the features are not as wide, or fewer than two.
  """
  every = (np.arange(len(real)), np.arange(len(made)))
  return KernelDistance(real, made)(*every)


class KernelDistance:
  """`kernel_distance` of parts of two sets, or of what is drawn from them.

  The kernel of all pairs is computed once, so that to draw again costs little.
  It takes 8 bytes a pair.
  """

  def __init__(self, real: Features, made: Features):
    """Raises UserError as `kernel_distance`."""
    real, made = np.asarray(real, DTYPE), np.asarray(made, DTYPE)
    if real.shape[1] != made.shape[1]:
      raise UserError(
        f"features of {real.shape[1]} and of {made.shape[1]} dimensions cannot "
        "be compared"
      )
    if min(len(real), len(made)) < 2:
      raise UserError("a kernel distance needs two clips of each kind")
    pairs = ((real, real), (made, made), (real, made))
    self._real, self._made, self._both = (_kernel(x, y) for x, y in pairs)

  def __call__(
    self, real: Int[np.ndarray, " _"], made: Int[np.ndarray, " _"]
  ) -> float:
    """Of the clips of these numbers, each as often as it is named."""
    v, w = (
      np.bincount(numbers, minlength=len(kernel)).astype(DTYPE)
      for numbers, kernel in ((real, self._real), (made, self._made))
    )
    across = v @ self._both @ w / (len(real) * len(made))
    return float(_within(self._real, v) + _within(self._made, w) - 2 * across)


def _kernel(x: Features, y: Features) -> Float[np.ndarray, "_ _"]:
  return (x @ y.T / x.shape[1] + 1) ** 3


def _within(kernel: Features, times: Float[np.ndarray, " n"]) -> float:
  """Mean over all pairs of two features, each `times` there."""
  n = times.sum()
  return (times @ kernel @ times - times @ kernel.diagonal()) / (n * (n - 1))


def project(features: Features, dimensions: int, seed: int = 0) -> Features:
  """A fixed random projection, that keeps distances in the mean.

  Entries of the matrix are normal, of variance 1 / k (Johnson and Lindenstrauss
  1984), and the same on every machine.

  Raises:
    UserError: there are not more dimensions than are kept.
  """
  width = features.shape[1]
  if not 0 < dimensions < width:
    raise UserError(
      f"{width} dimensions cannot be projected to {dimensions}: it takes from "
      f"1 to {width - 1}"
    )
  rng = np.random.Generator(np.random.PCG64(seed))
  matrix = rng.standard_normal((width, dimensions)) / np.sqrt(dimensions)
  return np.asarray(features, DTYPE) @ matrix


def inception_score(
  logits: Float[np.ndarray, "n classes"], splits: int = 10
) -> tuple[float, float]:
  """Mean and standard deviation over splits (IS, arXiv 1606.03498).

  The exponential of the mean divergence of a clip's class probabilities from
  those of its split: from 1 to the number of classes, 101 for UCF101.

  Args:
    logits: a classifier's, in the order in which clips were made.
    splits: of as equal size as can be, one after the other.

  Raises:
    UserError: there are fewer clips than splits.
  """
  logits = np.asarray(logits, DTYPE)
  if len(logits) < splits:
    raise UserError(f"{len(logits)} clips cannot be split into {splits}")
  shifted = logits - logits.max(axis=1, keepdims=True)
  logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
  scores = []
  for part in np.array_split(logs, splits):
    p = np.exp(part)
    mean = p.mean(axis=0)
    # Where a class has no probability at all, p log p is 0.
    log_mean = np.log(mean, where=mean > 0, out=np.zeros_like(mean))
    scores.append(np.exp((p * (part - log_mean)).sum(axis=1).mean()))
  return float(np.mean(scores)), float(np.std(scores))
