# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import scipy.linalg

from lumiere_jax.errors import UserError
from lumiere_jax.scoring.distance import (
  KernelDistance,
  frechet_distance,
  frechet_of,
  inception_score,
  kernel_distance,
  project,
)
from lumiere_jax.scoring.moments import Moments, merge


def draw(n, d, seed=0, scale=1.0, shift=0.0):
  rng = np.random.default_rng(seed)
  return (
    rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) * scale + shift
  )


def exactly(mean, covariance):
  """Moments of a normal distribution that is known."""
  return Moments(2, np.asarray(mean, float), np.asarray(covariance, float))


def test_moments_are_numpys():
  x = draw(50, 7).astype(np.float32)
  moments = Moments.of(x)
  np.testing.assert_allclose(moments.mean, x.mean(0, dtype=float), atol=1e-12)
  want = np.cov(x.astype(float), rowvar=False)
  np.testing.assert_allclose(moments.covariance, want, rtol=1e-10)


def test_parts_merge_to_the_whole_in_any_order():
  """Far from zero, where sums of squares would lose all digits."""
  x = draw(101, 5, shift=1e6)
  whole = Moments.of(x)
  parts = [Moments.of(p) for p in np.array_split(x, [1, 1, 40, 90])]
  for order in (parts, parts[::-1]):
    found = merge(order)
    assert found.count == 101
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(found.scatter, whole.scatter, rtol=1e-6)


def test_features_that_are_not_finite_are_named():
  x = draw(5, 3)
  x[2, 1] = np.nan
  with pytest.raises(UserError, match="clip 2 are not finite"):
    Moments.of(x)


@pytest.mark.parametrize("counts", [(6, 9), (9, 6), (7, 40), (40, 45)])
def test_frechet_distance_of_few_clips_is_the_same(counts):
  """Found among the clips, or among the dimensions."""
  x, y = draw(counts[0], 10), draw(counts[1], 10, seed=1, shift=0.3)
  want = frechet_distance(Moments.of(x), Moments.of(y))
  # Roots of eigenvalues that should be 0 are of the order of 1e-8.
  assert frechet_of(x, y) == pytest.approx(want, rel=1e-6)
  assert frechet_of(x, x) == pytest.approx(0, abs=1e-6 * want)
  x[1, 2] = np.inf
  with pytest.raises(UserError, match="clip 1 are not finite"):
    frechet_of(x, y)


def test_kernel_distance_of_drawn_clips_is_that_of_their_features():
  """What a bootstrap asks for, clips that are drawn twice among them."""
  x, y = draw(12, 5), draw(9, 5, seed=1, shift=0.3)
  rng = np.random.default_rng(0)
  i, j = rng.integers(12, size=12), rng.integers(9, size=7)
  kernel = KernelDistance(x, y)
  assert kernel(i, j) == pytest.approx(kernel_distance(x[i], y[j]), rel=1e-9)


def test_frechet_distance_of_one_dimension():
  """(m - n)^2 + (s - t)^2."""
  found = frechet_distance(exactly([1], [[4]]), exactly([4], [[25]]))
  assert found == pytest.approx(9 + 9)


def test_frechet_distance_of_covariances_that_commute():
  rng = np.random.default_rng(0)
  q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
  a, b = rng.uniform(0.1, 4, (2, 6))
  found = frechet_distance(
    exactly(np.zeros(6), q * a @ q.T), exactly(np.ones(6), q * b @ q.T)
  )
  want = 6 + np.square(np.sqrt(a) - np.sqrt(b)).sum()
  assert found == pytest.approx(want, rel=1e-10)


def test_frechet_distance_is_scipys():
  real, made = Moments.of(draw(90, 12)), Moments.of(draw(80, 12, 1, shift=0.3))
  s, t = real.covariance, made.covariance
  root = scipy.linalg.sqrtm(s @ t)
  apart = real.mean - made.mean
  want = apart @ apart + np.trace(s + t - 2 * root.real)
  assert frechet_distance(real, made) == pytest.approx(want, rel=1e-9)
  assert frechet_distance(made, real) == pytest.approx(want, rel=1e-9)


def test_frechet_distance_holds_where_covariances_are_singular():
  """Fewer clips than dimensions: scipy's root of the product is unstable."""
  x = draw(8, 30)
  assert frechet_distance(Moments.of(x), Moments.of(x)) == pytest.approx(
    0, abs=1e-4
  )
  moved = frechet_distance(Moments.of(x), Moments.of(x + 2))
  assert moved == pytest.approx(4 * 30, rel=1e-5)


@pytest.mark.parametrize("wide", [11, 13])
def test_widths_must_agree(wide):
  one, other = draw(20, 12), draw(20, wide)
  with pytest.raises(UserError, match=f"12 and of {wide} dimensions"):
    frechet_distance(Moments.of(one), Moments.of(other))
  with pytest.raises(UserError, match=f"12 and of {wide} dimensions"):
    kernel_distance(one, other)


def test_kernel_distance_is_its_definition():
  x, y = draw(5, 3), draw(4, 3, 1)

  def k(a, b):
    return (a @ b / 3 + 1) ** 3

  within = [
    np.mean(
      [k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j]
    )
    for s in (x, y)
  ]
  across = np.mean([k(a, b) for a in x for b in y])
  assert kernel_distance(x, y) == pytest.approx(sum(within) - 2 * across)


def test_kernel_distance_is_unbiased_and_frechet_is_not():
  """Of one distribution: few clips make a Frechet distance, no kernel one."""
  rng = np.random.default_rng(0)
  kernel, frechet = [], []
  for _ in range(200):
    x, y = rng.standard_normal((2, 20, 8))
    kernel.append(kernel_distance(x, y))
    frechet.append(frechet_distance(Moments.of(x), Moments.of(y)))
  spread = np.std(kernel) / np.sqrt(len(kernel))
  assert abs(np.mean(kernel)) < 3 * spread
  assert np.mean(frechet) > 1


def test_projections_keep_distances_and_are_fixed():
  x = draw(40, 500, scale=0.1)
  low = project(x, 64)
  np.testing.assert_array_equal(low, project(x, 64))
  assert not np.allclose(low, project(x, 64, seed=1))
  ratio = np.linalg.norm(low[1:] - low[:-1], axis=1) / np.linalg.norm(
    x[1:] - x[:-1], axis=1
  )
  assert 0.9 < ratio.mean() < 1.1
  # The first numbers, so that no other machine or version projects otherwise.
  unit = project(np.eye(500)[:1], 64)[0, :3]
  np.testing.assert_allclose(
    unit, np.array([0.12573022, -0.13210486, 0.64042265]) / 8, rtol=1e-6
  )
  with pytest.raises(UserError, match="1 to 499"):
    project(x, 500)


def test_inception_score_is_at_most_the_number_of_classes():
  classes = 101
  sure = np.eye(classes)[np.arange(classes * 20) % classes] * 1e4
  assert inception_score(sure) == pytest.approx((classes, 0), abs=1e-6)
  one_class = np.zeros((200, classes))
  one_class[:, 3] = 50
  assert inception_score(one_class)[0] == pytest.approx(1)
  assert inception_score(np.zeros((200, classes)))[0] == pytest.approx(1)
  with pytest.raises(UserError, match="9 clips"):
    inception_score(np.zeros((9, classes)))


def test_inception_score_is_its_definition():
  logits = np.random.default_rng(0).standard_normal((40, 5)) * 3
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  want = []
  for part in (p[:20], p[20:]):
    mean = part.mean(0)
    want.append(np.exp(np.mean([(q * np.log(q / mean)).sum() for q in part])))
  found = inception_score(logits, splits=2)
  assert found == pytest.approx((np.mean(want), np.std(want)))
