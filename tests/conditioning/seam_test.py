# SPDX-License-Identifier: Apache-2.0
"""Borders and drifts of clips in which they are known."""

import numpy as np
import pytest

from lumiere_jax.conditioning.seam import seam_report


def test_a_step_at_the_border_is_found_and_nothing_else():
  pixels = np.full((3, 4, 6, 3), 50, np.uint8)
  mask = np.ones((3, 4, 6, 1), bool)
  pixels[:, :, 3:] = 80
  mask[:, :, 3:] = False
  assert seam_report(pixels, mask) == {
    "border_in_space": 30.0,
    "made_in_space": 0.0,
    "border_in_time": None,
    "made_in_time": 0.0,
    "color_drift": 30.0,
  }


def test_frames_that_get_brighter_drift():
  levels = np.array([10, 30, 35, 40], np.uint8)[:, None, None, None]
  pixels = np.broadcast_to(levels, (4, 2, 2, 3))
  mask = np.zeros((4, 2, 2, 1), bool)
  mask[0] = True
  report = seam_report(pixels, mask)
  assert report["border_in_space"] is None
  assert report["border_in_time"] == 20.0
  assert report["made_in_time"] == pytest.approx(5.0)
  assert report["color_drift"] == 30.0
