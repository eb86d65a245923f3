# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import plain


def texture(size=64, seed=0):
  """Smooth at the scale of a few pixels, periodic."""
  rng = np.random.default_rng(seed)
  spectrum = np.fft.fft2(rng.standard_normal((size, size)))
  f = np.fft.fftfreq(size)
  spectrum *= np.exp(-((f[:, None] ** 2 + f**2) * 40))
  image = np.fft.ifft2(spectrum).real
  image = (image - image.min()) / np.ptp(image) * 200 + 20
  return image.astype(np.uint8)[..., None].repeat(3, axis=-1)


def moving(step, frames=8):
  return np.stack([np.roll(texture(), i * step, axis=1) for i in range(frames)])


def still(frames=8):
  return moving(0, frames)


@pytest.mark.parametrize("step", [1, 2, 4])
def test_speed_is_that_of_what_moves(step):
  found = plain.block_speed(moving(step), fps=16)
  assert found == pytest.approx(16 * step / 64, rel=0.25)


def test_still_clips_do_not_move():
  assert plain.block_speed(still(), 16) == pytest.approx(0, abs=1e-3)
  gray = np.full((5, 32, 32, 3), 80, np.uint8)
  assert plain.block_speed(gray, 16) == 0
  assert plain.static_share(gray) == 1 and plain.smoothness(gray) == 1


def test_speed_is_of_the_fastest_part():
  clip = still()
  clip[:, :32] = moving(4)[:, :32]
  assert plain.block_speed(clip, 16) == pytest.approx(1.0, rel=0.3)


def test_steady_change_is_smooth_and_flicker_is_not():
  ramp = np.arange(8)[:, None, None, None] * np.full((1, 16, 16, 3), 10)
  assert plain.smoothness(ramp.astype(np.uint8)) == 1
  jumps = (np.arange(8) % 2)[:, None, None, None] * np.full((1, 16, 16, 3), 10)
  assert plain.smoothness(jumps.astype(np.uint8)) == 0


def test_sharpness_falls_with_blur():
  sharp = still()
  blurred = np.mean(
    [
      np.roll(sharp, (dy, dx), axis=(1, 2))
      for dy in range(-2, 3)
      for dx in range(-2, 3)
    ],
    axis=0,
  ).astype(np.uint8)
  assert plain.sharpness(blurred) < 0.8 * plain.sharpness(sharp)


def test_drift_is_of_colours_and_not_of_movement():
  assert plain.color_drift(moving(4)) < 0.5
  fading = moving(4).astype(float) * np.linspace(1, 0.5, 8)[:, None, None, None]
  assert plain.color_drift(fading.astype(np.uint8)) > 10


def test_clipping_counts_both_ends():
  clip = np.full((4, 16, 16, 3), 128, np.uint8)
  clip[:, :4] = 0
  clip[:, 12:] = 255
  assert plain.clipped_share(clip) == 0.5


def test_all_measures_have_their_own_names():
  found = plain.plain_measures(moving(2), 16)
  assert all(np.isfinite(list(found.values())))
  vbench = {"temporal_flickering", "motion_smoothness", "dynamic_degree"}
  assert not vbench & set(found)
  with pytest.raises(UserError, match="3 frames"):
    plain.plain_measures(moving(2, 3), 16)
  with pytest.raises(UserError, match="8 x 8"):
    plain.plain_measures(np.zeros((5, 8, 8, 3), np.uint8), 16)
