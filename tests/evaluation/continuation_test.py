# SPDX-License-Identifier: Apache-2.0
"""Rows of what goes on from a given part: the fill, and known clips."""

import numpy as np
import pytest

from lumiere_jax.evaluation import (
  Continuation,
  Labels,
  continuation_row,
)
from lumiere_jax.evaluation.continuation import nearest_fill

T = 24


@pytest.fixture
def real(drawing):
  return drawing.clip("lime disc", "blue", "slides right", num_frames=T)


def _mask(real, given):
  mask = np.zeros((*real.shape[:3], 1), bool)
  mask[given] = True
  return mask


def _trial(made, real, given):
  labels = Labels("lime disc", "blue", "slides right")
  mask = _mask(real, given)
  pixels = np.where(mask, real, 7).astype(np.uint8)  # 7 where none is given.
  return Continuation(
    made=made, real=real, given=pixels, mask=mask, labels=labels
  )


def test_fill_after_an_image_is_a_still_copy(real):
  fill = nearest_fill(real, _mask(real, np.s_[:1]))
  np.testing.assert_array_equal(fill, np.broadcast_to(real[0], real.shape))


def test_fill_after_a_clip_holds_its_last_frame(real):
  fill = nearest_fill(real, _mask(real, np.s_[:9]))
  np.testing.assert_array_equal(fill[:9], real[:9])
  assert (fill[9:] == real[8]).all()


def test_fill_between_two_frames_takes_the_nearer(real):
  fill = nearest_fill(real, _mask(real, np.s_[[0, -1]]))
  assert (fill[: T // 2] == real[0]).all()
  assert (fill[T // 2 :] == real[-1]).all()


def test_fill_of_a_sliding_hole_is_the_pixel_a_moment_away(real):
  mask = np.ones((*real.shape[:3], 1), bool)
  mask[5:8, 3, 4] = False
  fill = nearest_fill(np.where(mask, real, 0), mask)
  np.testing.assert_array_equal(fill[5, 3, 4], real[4, 3, 4])
  np.testing.assert_array_equal(fill[7, 3, 4], real[8, 3, 4])


def test_fill_of_what_is_never_given_is_the_nearest_pixel_aside(real):
  fill = nearest_fill(real, _mask(real, np.s_[:, 8:24, 8:24]))
  np.testing.assert_array_equal(fill[:, 3, 12], real[:, 8, 12])
  np.testing.assert_array_equal(fill[:, 0, 0], real[:, 8, 8])


def test_the_real_clip_is_right_everywhere(drawing, gallery, real):
  row = continuation_row(
    [_trial(real, real, np.s_[:1])], gallery, drawing.palette
  )
  assert row["given_exact"] == row["closer_than_fill"] == 1
  assert row["object_r1_along"] == [1, 1, 1]
  assert row["psnr_db"]["made"] is None
  assert 5 < row["psnr_db"]["fill"] < 40
  assert row["motion"]["made"] == row["motion"]["real"] > 0
  assert row["motion"]["fill"] == 0
  assert row["motion"]["given"] is None  # No pair of frames is given whole.
  assert row["movement_accuracy"] == 1
  assert row["fill"] == {
    "background_accuracy": 1,
    "movement_accuracy": 0,
    "object_r1": 1,
  }


def test_psnr_is_of_what_was_made_alone(drawing, gallery, real):
  made = real.copy()
  made[1:] ^= 1  # One grey level.
  row = continuation_row(
    [_trial(made, real, np.s_[:1])], gallery, drawing.palette
  )
  assert row["psnr_db"]["made"] == pytest.approx(20 * np.log10(255), abs=1e-3)


def test_one_level_beside_what_was_given_is_not_exact(drawing, gallery, real):
  made = real.copy()
  made[0, 0, 0, 0] ^= 1
  trials = [_trial(made, real, np.s_[:1]), _trial(real, real, np.s_[:1])]
  row = continuation_row(trials, gallery, drawing.palette)
  assert row["given_exact"] == 0.5


def test_an_object_lost_on_the_way_is_seen(drawing, gallery, real):
  other = drawing.clip("salmon square", "blue", "slides right", num_frames=T)
  made = np.concatenate([real[: 2 * T // 3], other[2 * T // 3 :]])
  row = continuation_row(
    [_trial(made, real, np.s_[:1])], gallery, drawing.palette
  )
  assert row["object_r1_along"] == [1, 1, 0]


def test_motion_is_told_apart_inside_and_outside(drawing, gallery, real):
  made = np.broadcast_to(real[0], real.shape).copy()
  made[::2, 16:] = 255 - made[::2, 16:]
  trial = _trial(made, real, np.s_[:, :16])
  row = continuation_row([trial], gallery, drawing.palette)
  assert row["motion"]["given"] == 0
  assert row["motion"]["made"] > 50
