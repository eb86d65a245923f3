# SPDX-License-Identifier: Apache-2.0
"""Averages of the parameters over training, of lengths chosen afterwards.

A power-function average at time t weighs the parameters of each time tau in
proportion to tau^gamma. Its length sigma_rel is the standard deviation of that
profile over t. Averages of two lengths, stored at several times, are combined
to one of any length (EDM2, Karras et al., arXiv 2312.02696, section 3 and
appendix C).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax.contrib import ScheduleFreeState

from lumiere_jax.shapes import PyTree


class PowerAverages(NamedTuple):
  """State of an optimizer and averages of what it trains.

  Attributes:
    inner: the optimizer's own state.
    time: steps taken; fp32, so that a step that is skipped does not count, as
      with all that is no integer.
    averages: a tree like the parameters for each length, fp32.
  """

  inner: PyTree
  time: PyTree
  averages: tuple[PyTree, ...]


def with_averages(
  tx: optax.GradientTransformation, lengths: Sequence[float]
) -> optax.GradientTransformation:
  """An optimizer that keeps power-function averages too.

  Each step multiplies an average by (1 - 1/t)^(gamma + 1) (EDM2, eq. 127), so
  that at time t the parameters after step i have the weight of the profile
  between i - 1 and i.

  Args:
    tx: the optimizer; its updates and state stay what they are.
    lengths: of the averages, relative to the run so far.
  """
  exponents = [exponent(length) for length in lengths]

  def init(params):
    zeros = tuple(optax.tree.zeros_like(params) for _ in lengths)
    return PowerAverages(tx.init(params), jnp.zeros((), jnp.float32), zeros)

  def update(grads, state, params=None):
    updates, inner = tx.update(grads, state.inner, params)
    new = evaluation_params(inner, optax.apply_updates(params, updates))
    time = state.time + 1.0
    log = jnp.log1p(-1.0 / time)
    averages = tuple(
      optax.incremental_update(new, old, -jnp.expm1((gamma + 1.0) * log))
      for old, gamma in zip(state.averages, exponents, strict=True)
    )
    return updates, PowerAverages(inner, time, averages)

  return optax.GradientTransformation(init, update)


def evaluation_params(opt_state: PyTree, params: PyTree) -> PyTree:
  """Returns the parameters to measure, average and ship.

  Those in training, except with an optimizer that is schedule-free.

  Args:
    opt_state: of the optimizer, after the step that led to `params`.
    params: in training.
  """

  def is_free(node):
    return isinstance(node, ScheduleFreeState)

  for node in jax.tree.leaves(opt_state, is_leaf=is_free):
    if is_free(node):
      return optax.contrib.schedule_free_eval_params(node, params)
  return params


def exponent(length: float) -> float:
  """Gamma of the profile tau^gamma of a relative length (EDM2, eq. 123).

  length^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), a cubic in gamma. Its
  largest root is the profile that rises towards the end.

  Args:
    length: in (0, 0.28]; a profile that does not rise has 1 / sqrt(12).
  """
  inverse = 1.0 / length**2
  return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


class Fit(NamedTuple):
  """How stored averages make up another one.

  Attributes:
    weights: of each of them; their sum is 1.
    error: of the profile, relative to its norm.
  """

  weights: np.ndarray
  error: float


def fit(
  times: Sequence[float],
  lengths: Sequence[float],
  time: float,
  length: float,
) -> Fit:
  """The best combination of stored averages (EDM2, algorithm 3).

  Args:
    times: at which each was stored, in steps.
    lengths: of each, as many.
    time: of the average to make, of which none is stored later.
    length: its length.
  """
  t, gamma = np.asarray(times), np.array([exponent(x) for x in lengths])
  end, goal = np.array([time]), np.array([exponent(length)])
  among = _products(t[:, None], gamma[:, None], t, gamma)
  with_goal = _products(t, gamma, end, goal)
  weights, *_ = np.linalg.lstsq(among, with_goal, rcond=None)
  weights /= weights.sum()
  (norm,) = _products(end, goal, end, goal)
  squared = weights @ among @ weights - 2 * weights @ with_goal + norm
  return Fit(weights, float(np.sqrt(max(squared / norm, 0.0))))


def _products(
  t: np.ndarray, gamma: np.ndarray, other_t: np.ndarray, other: np.ndarray
) -> np.ndarray:
  """Inner products of profiles (EDM2, eq. 151).

  The integral of both over the time that they share, up to the earlier t.
  """
  scale = (gamma + 1) * (other + 1) / (gamma + other + 1)
  earlier, later = np.minimum(t, other_t), np.maximum(t, other_t)
  of_later = np.where(t > other_t, gamma, other)
  return scale * (earlier / later) ** of_later / later
