# SPDX-License-Identifier: Apache-2.0
"""Measures of enlarged clips on clips whose values are known."""

import numpy as np
import pytest

from lumiere_jax.evaluation.enlargement import (
  FILTERS,
  enlargement_row,
  filtered,
  psnr,
  sharpness,
  ssim,
)


@pytest.fixture(scope="module")
def clip():
  rng = np.random.default_rng(0)
  return rng.integers(0, 200, (6, 16, 24, 3), np.uint8)


def test_psnr_is_that_of_the_formula(clip):
  assert psnr(clip + 10, clip) == pytest.approx(
    20 * np.log10(255 / 10), abs=1e-3
  )


def test_ssim_of_a_clip_is_told_apart(clip):
  """One for the same, about zero for noise that has nothing to do with it."""
  other = np.random.default_rng(1).integers(0, 200, clip.shape, np.uint8)
  assert ssim(clip, clip) == pytest.approx(1, abs=1e-5)
  assert abs(ssim(clip, other)) < 0.1
  brighter = ssim(clip, clip + 20)
  assert 0.8 < brighter < 1


@pytest.mark.parametrize("kind", FILTERS)
def test_filters_keep_what_is_flat_and_place_pixels_by_their_centres(kind):
  flat = np.full((2, 4, 6, 3), 77, np.uint8)
  large = filtered(flat, 4, kind)
  assert large.shape == (2, 16, 24, 3)
  assert (large == 77).all()
  ramp = np.tile(np.arange(0, 160, 10, np.uint8), (16, 1))
  large = filtered(np.stack([ramp] * 3, -1)[None], 2, kind)[0, 16, :, 0]
  # Pixel i of the large clip has its centre at (i - 1/2) / 2 of the small.
  wanted = 10 * (np.arange(32) - 0.5) / 2
  np.testing.assert_allclose(large[8:-8], wanted[8:-8], atol=1)


def test_sharpness_falls_by_blurring(clip):
  small = clip[:, ::4, ::4]
  blurred = filtered(small, 4, "bicubic")
  blocks = small.repeat(4, axis=1).repeat(4, axis=2)
  assert sharpness(blurred) < sharpness(blocks)
  assert sharpness(np.full_like(clip, 9)) == 0


def test_a_row_tells_what_can_be_told(clip):
  pairs = [clip] * 2, [clip + 10] * 2
  row = enlargement_row(*pairs, [2], None)
  assert row["n"] == 2
  assert row["psnr_db"] == pytest.approx(28.13, abs=0.01)
  assert "feature_distance" not in row
  assert row["seam_ratio"] == pytest.approx(1, abs=0.2)
  alone = enlargement_row([clip], None, [], lambda a, b: 1.0)
  assert not {"psnr_db", "ssim", "feature_distance", "seam_ratio"} & set(alone)
  compared = enlargement_row(*pairs, [], lambda a, b: 1.5)
  assert compared["feature_distance"] == 1.5


def test_a_seam_shows_in_the_ratio():
  """Steady change, and a jump where two segments meet."""
  steps = np.array([0, 1, 2, 13, 14, 15], np.uint8)
  clip = np.broadcast_to(steps[:, None, None, None], (6, 8, 8, 3))
  row = enlargement_row([clip], None, [2], None)
  assert row["seam_ratio"] == pytest.approx(121, rel=1e-6)
