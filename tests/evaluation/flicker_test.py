# SPDX-License-Identifier: Apache-2.0
"""Flicker and frame difference in closed form."""

import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import flicker, frame_differences


def levels(values):
  values = np.array(values, np.uint8)
  return np.broadcast_to(values[:, None, None, None], (len(values), 4, 4, 3))


def test_a_still_clip_neither_changes_nor_flickers():
  assert flicker(levels([9] * 5)) == 0
  np.testing.assert_array_equal(frame_differences(levels([9] * 5)), np.zeros(4))


def test_steady_change_does_not_flicker():
  clip = levels([10, 30, 50, 70])
  assert flicker(clip) == 0
  np.testing.assert_allclose(frame_differences(clip), 20)


def test_jumping_to_and_fro_counts_the_jump():
  assert flicker(levels([100, 130] * 5)) == pytest.approx(30)


def test_noise_flickers():
  rng = np.random.default_rng(0)
  clip = np.clip(rng.normal(128, 10, (20, 32, 32, 3)), 0, 255).astype(np.uint8)
  # Second differences of noise have the deviation sqrt(6) sigma.
  expected = np.sqrt(6) * 10 * np.sqrt(2 / np.pi) / 2
  assert flicker(clip) == pytest.approx(expected, rel=0.02)


def test_mask_chooses_the_pixels():
  clip = np.array(levels([50] * 6))
  clip[::2, :2] = 90
  mask = np.zeros((6, 4, 4))
  mask[:, :2] = 1
  assert flicker(clip, mask) == pytest.approx(40)
  assert flicker(clip, 1 - mask) == 0
  assert flicker(clip, np.zeros((6, 4, 4))) == 0


def test_too_short_clips_are_named():
  with pytest.raises(UserError, match="2 frames"):
    flicker(levels([1, 2]))
  with pytest.raises(UserError, match="1 frames"):
    frame_differences(levels([1]))
