# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.scoring.canaries import CANARIES, spoil
from lumiere_jax.scoring.slices import periodicity, xt_slice


def clip(frames=12, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (frames, 6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", sorted(CANARIES))
def test_canaries_are_clips_and_the_same_each_time(name):
  x = clip()
  found = spoil(name, x, seed=1, index=2)
  assert found.shape == x.shape and found.dtype == np.uint8
  np.testing.assert_array_equal(found, spoil(name, x, seed=1, index=2))
  assert not np.array_equal(found, x)


def test_what_each_canary_keeps():
  x = clip()
  spoilt = {name: spoil(name, x, 0, 0) for name in CANARIES}
  np.testing.assert_array_equal(spoilt["reversed"], x[::-1])
  assert np.ptp(spoilt["frozen"], axis=0).max() == 0
  np.testing.assert_array_equal(spoilt["frozen"][0], x[6])
  order = np.lexsort(x.reshape(12, -1).T)
  again = np.lexsort(spoilt["shuffled"].reshape(12, -1).T)
  np.testing.assert_array_equal(x[order], spoilt["shuffled"][again])
  gray = np.full((4, 32, 32, 3), 128, np.uint8)
  noise = spoil("noised", gray, 0, 0).astype(float) - 128
  assert 24 < noise.std() < 27


def test_slices_are_one_row_over_time():
  x = clip()
  np.testing.assert_array_equal(xt_slice(x), x[:, 3])
  np.testing.assert_array_equal(xt_slice(x, 0), x[:, 0])
  with pytest.raises(UserError, match=r"row 6 .* 0 to 5"):
    xt_slice(x, 6)


@pytest.mark.parametrize("period", [5, 8, 12])
def test_periods_are_found(period):
  x = np.concatenate([clip(period)] * 4)
  assert periodicity(x) == (1.0, period)


def test_clips_without_a_period_score_low():
  assert periodicity(np.zeros((16, 4, 4, 3), np.uint8)) == (0.0, 0)
  ramp = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones(
    (1, 4, 4, 3), np.uint8
  )
  assert periodicity(ramp) == (0.0, 0)
  assert periodicity(clip(40))[0] < 0.1
  with pytest.raises(UserError, match="3 frames"):
    periodicity(clip(3))
