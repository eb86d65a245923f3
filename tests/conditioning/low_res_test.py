# SPDX-License-Identifier: Apache-2.0
"""The condition of super-resolution: sizes, interpolation, noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.conditioning.low_res import (
  augment,
  enlarge,
  shrink,
  training_condition,
)
from lumiere_jax.config import ConditionConfig
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.diffusion.schedule import make_schedule

CONFIG = ConditionConfig(kind="low_res", scale=2)
SCHEDULE = make_schedule(CONFIG.schedule)
CLIPS = jax.random.normal(jax.random.key(0), (2, 3, 4, 6, 3))


def line(scale, size, align_corners):
  """Where the pixels of an enlarged line lie in the line itself."""
  i = np.arange(size * scale)
  if align_corners:
    return i * (size - 1) / (size * scale - 1)
  return np.clip((i + 0.5) / scale - 0.5, 0, size - 1)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("scale", [2, 4])
def test_enlarging_is_linear_interpolation_of_rows_and_columns(
  scale, align_corners
):
  rows, columns = (line(scale, n, align_corners) for n in (4, 6))

  def along(axis, where, x):
    points = np.arange(x.shape[axis])
    return np.apply_along_axis(lambda v: np.interp(where, points, v), axis, x)

  expected = along(3, columns, along(2, rows, CLIPS))
  result = enlarge(CLIPS, scale, align_corners)
  np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_enlarging_agrees_with_torch(align_corners):
  torch = pytest.importorskip("torch")
  frames = torch.tensor(np.asarray(CLIPS[0])).permute(0, 3, 1, 2)
  theirs = torch.nn.functional.interpolate(
    frames, scale_factor=4, mode="bilinear", align_corners=align_corners
  )
  np.testing.assert_allclose(
    enlarge(CLIPS[0], 4, align_corners), theirs.permute(0, 2, 3, 1), atol=1e-5
  )


def test_a_single_pixel_enlarges_to_itself():
  np.testing.assert_allclose(enlarge(jnp.full((1, 1, 3), 0.3), 4, True), 0.3)


def test_shrinking_takes_the_mean_of_blocks():
  low = shrink(CLIPS, 2)
  assert low.shape == (2, 3, 2, 3, 3)
  np.testing.assert_allclose(
    low[1, 2, 1, 2], CLIPS[1, 2, 2:4, 4:6].mean((0, 1)), rtol=1e-5
  )
  with pytest.raises(ValueError, match="not a multiple of scale=4"):
    shrink(CLIPS, 4)


def test_noise_follows_the_level():
  x = jnp.ones((2, 64, 64, 3))
  level = jnp.array([0.0, 700.0])
  noised = augment(x, level, sample_keys(0, [0, 1]), SCHEDULE)
  np.testing.assert_allclose(
    noised.mean((1, 2, 3)), SCHEDULE.alpha(level), atol=0.03
  )
  np.testing.assert_allclose(
    noised.std((1, 2, 3)), SCHEDULE.sigma(level), rtol=0.03
  )


def test_an_example_is_the_same_in_any_batch_and_frames_share_its_level():
  keys = sample_keys(3, [0, 1])
  both = training_condition(CLIPS, keys, CONFIG)
  alone = training_condition(CLIPS[1:], keys[1:], CONFIG)
  np.testing.assert_allclose(both.channels[1], alone.channels[0], atol=1e-6)
  assert both.channels.shape == CLIPS.shape
  assert both.level.shape == (2,) and both.level[1] == alone.level[0]


def test_levels_fill_their_range():
  cfg = ConditionConfig(kind="low_res", scale=2, max_level=3)
  x = jnp.zeros((200, 2, 2, 3))
  levels = training_condition(x, sample_keys(0, range(200)), cfg).level
  assert set(np.asarray(levels)) == {0.0, 1.0, 2.0, 3.0}


def test_without_noise_it_is_the_shrunk_clip_enlarged():
  cfg = ConditionConfig(kind="low_res", scale=2, max_level=0)
  condition = training_condition(CLIPS, sample_keys(0, [0, 1]), cfg)
  expected = enlarge(shrink(CLIPS, 2), 2)
  difference = condition.channels - expected
  assert 0 < float(jnp.abs(difference).max()) < 0.1
