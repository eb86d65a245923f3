# SPDX-License-Identifier: Apache-2.0
"""The noise of a background is that of its pixels, whatever stands on it."""

import numpy as np
import pytest

from lumiere_jax.evaluation.background import background_noise
from lumiere_jax.evaluation.foreground import segment

GREEN = (30, 150, 60)


def standing(num_frames=10, px=32):
  """A sprite that moves, with a faint shadow around it."""
  clip = np.tile(np.array(GREEN, np.float64), (num_frames, px, px, 1))
  for t in range(num_frames):
    at = slice(px // 4 + t % 4, px // 2 + t % 4)
    shade = slice(at.start - px // 16, at.stop + px // 16)
    clip[t, shade, shade] -= 4
    clip[t, at, at] = (214, 32, 40)
  return clip


def measured(clip):
  clip = np.clip(clip.round(), 0, 255).astype(np.uint8)
  return background_noise(clip, segment(clip).mask)


@pytest.mark.parametrize(("num_frames", "px"), [(10, 32), (80, 64)])
def test_a_background_of_one_color_has_none(num_frames, px):
  assert measured(standing(num_frames, px)) == 0


@pytest.mark.parametrize("sigma", [1, 4, 10])
def test_it_is_the_deviation_of_the_noise(sigma):
  clip = standing()
  noise = np.random.default_rng(0).normal(0, sigma, clip.shape)
  # Rounding to whole levels adds a variance of 1 / 12.
  expected = np.sqrt(sigma**2 + 1 / 12)
  assert measured(clip + noise) == pytest.approx(expected, rel=0.03)


def test_channels_are_averaged_as_squares_and_a_tint_is_no_noise():
  clip = standing()
  clip += (5, 5, 5)
  assert measured(clip) == 0
  clip[::2, ..., 2] += 6  # One channel, by 3 to and fro.
  assert measured(clip) == pytest.approx(3 / np.sqrt(3), rel=0.01)


def test_of_a_sprite_that_fills_the_frame_nothing_is_known():
  clip = np.full((4, 32, 32, 3), 9, np.uint8)
  assert background_noise(clip, np.ones((4, 32, 32))) is None
