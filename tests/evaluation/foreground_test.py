# SPDX-License-Identifier: Apache-2.0
"""Background colour and mask, with a sprite over much of the border."""

import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import classify_background
from lumiere_jax.evaluation.color import rgb_to_lab
from lumiere_jax.evaluation.foreground import segment


def square(noise, background=(30, 150, 60), rows=slice(8, 24)):
  clip = np.tile(np.array(background, np.float64), (6, 32, 32, 1))
  clip[:, rows, 8:24] = (214, 32, 40)
  clip += np.random.default_rng(0).normal(0, noise, clip.shape)
  return np.clip(clip.round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 6, 12])
def test_mask_is_the_square(noise):
  mask = segment(square(noise)).mask
  truth = np.zeros((32, 32))
  truth[8:24, 8:24] = 1
  assert np.abs(mask - truth).mean() < 0.01


def test_a_sprite_over_a_third_of_the_border_does_not_matter():
  clip = square(4, rows=slice(0, 32))
  clip[:, :, 2:24] = (214, 32, 40)
  found = segment(clip).background
  truth = rgb_to_lab(np.array([30, 150, 60], np.uint8))
  assert np.linalg.norm(found - truth) < 3


def test_single_specks_are_no_sprite():
  clip = square(0)
  clip[2, 2, 3] = 255
  assert segment(clip).mask[2, 2, 3] == 0


def test_a_clip_without_sprite_has_an_empty_mask():
  assert segment(np.full((4, 16, 16, 3), 77, np.uint8)).mask.max() == 0


def test_noise_alone_is_survived():
  clip = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
  assert np.isfinite(segment(clip).mask).all()


def test_every_background_is_named(drawing):
  for i, background in enumerate(drawing.palette):
    for noise in (0, 10):
      name = drawing.objects[i % len(drawing.objects)]
      clip = drawing.clip(name, background, "grows", num_frames=8, noise=noise)
      assert classify_background(clip, drawing.palette) == background


def test_empty_palette_is_refused():
  with pytest.raises(UserError, match="empty"):
    classify_background(square(0), {})
