# SPDX-License-Identifier: Apache-2.0
"""Seams between segments: where they can be, and how strong they are."""

import numpy as np
import pytest

from lumiere_jax.evaluation.segments import (
  neighbour_mse,
  seam_strength,
  segment_borders,
)


def test_borders_are_where_the_set_of_segments_changes():
  starts, size, length = (0, 14, 28, 42, 56, 64), 16, 80
  sets = [
    {s for s in starts if s <= frame < s + size} for frame in range(length)
  ]
  changes = [i for i in range(length - 1) if sets[i] != sets[i + 1]]
  assert segment_borders(length, starts, size) == changes


def test_difference_of_neighbours_in_shares_of_the_range():
  clip = np.zeros((3, 4, 4, 3), np.uint8)
  clip[1] = 255
  clip[2] = 204
  np.testing.assert_allclose(neighbour_mse(clip), [1, 0.04])


def test_jumps_between_segments_are_seen():
  rng = np.random.default_rng(0)
  smooth = rng.integers(100, 110, (32, 8, 8, 3)).astype(np.uint8)
  borders = segment_borders(32, (0, 8, 16, 24), 8)
  assert borders == [7, 15, 23]
  assert seam_strength(neighbour_mse(smooth), borders)[
    "ratio"
  ] == pytest.approx(1, abs=0.2)
  jumpy = (
    smooth + 40 * (np.arange(32) // 8 % 2).astype(np.uint8)[:, None, None, None]
  )
  assert seam_strength(neighbour_mse(jumpy), borders)["ratio"] > 20


def test_there_is_no_seam_without_borders_or_without_anything_else():
  changes = np.ones(3)
  assert seam_strength(changes, []) is None
  assert seam_strength(changes, [0, 1, 2]) is None
