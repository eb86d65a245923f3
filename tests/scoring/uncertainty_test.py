# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.scoring.distance import frechet_distance, kernel_distance
from lumiere_jax.scoring.moments import Moments
from lumiere_jax.scoring.uncertainty import bootstrap, extrapolate


def frechet(x, y):
  return frechet_distance(Moments.of(x), Moments.of(y))


def normal(rng, n, shift=0.0):
  return rng.standard_normal((n, 6)) + shift


@pytest.mark.parametrize("score", [frechet, kernel_distance])
def test_nine_intervals_in_ten_hold_the_true_distance(score):
  """Of level 0.9, within what 60 draws can tell; a few clips' bias apart."""
  rng = np.random.default_rng(0)
  pairs = [(normal(rng, 60), normal(rng, 60, 0.5)) for _ in range(60)]
  found = [score(x, y) for x, y in pairs]
  true = 6 * 0.5**2 if score is frechet else np.mean(found)
  held = 0
  for i, (x, y) in enumerate(pairs):
    low, high, level = bootstrap(
      score, x, y, biased=score is frechet, rounds=60, level=0.9, seed=i
    )
    assert low < high and level == 0.9
    held += low <= true <= high
  assert 47 <= held <= 59


def test_the_same_seed_gives_the_same_interval():
  rng = np.random.default_rng(0)
  x, y = normal(rng, 30), normal(rng, 30)

  def found(seed):
    return bootstrap(frechet, x, y, biased=True, seed=seed)

  assert found(3) == found(3) != found(4)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_extrapolation_takes_the_bias_of_few_clips_away(shift):
  """Distances of normal distributions of which the true one is known."""
  rng = np.random.default_rng(1)
  plain, infinite = [], []
  for i in range(20):
    x, y = normal(rng, 100), normal(rng, 100, shift)
    plain.append(frechet(x, y) - 6 * shift**2)
    infinite.append(extrapolate(frechet, x, y, seed=i) - 6 * shift**2)
  assert np.mean(plain) > 0.1
  assert abs(np.mean(infinite)) < 0.5 * np.mean(plain)


def test_what_cannot_be_drawn_is_told():
  x = np.zeros((10, 3))
  with pytest.raises(UserError, match="19 bootstrap rounds"):
    bootstrap(frechet, x, x, biased=True, rounds=19)
  with pytest.raises(UserError, match=r"1\.0 is not in"):
    bootstrap(frechet, x, x, biased=True, level=1.0)
  with pytest.raises(UserError, match="shares"):
    extrapolate(frechet, x, x, shares=(1.0,))
