# SPDX-License-Identifier: Apache-2.0
"""Distances of drawing styles: none to itself, each to what it should see."""

import numpy as np
import pytest
from scipy import ndimage

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import Gallery, Labels, strokes, style_row


@pytest.fixture(scope="module")
def clip(drawing):
  return drawing.clip("lime disc", "white", "stays", num_frames=8)


def _recoloured(clip):
  """Other colours on the sprite alone, white stays white."""
  white = (clip > 250).all(axis=-1, keepdims=True)
  return np.where(white, clip, clip[..., [2, 0, 1]])


def test_a_clip_is_at_no_distance_from_itself(clip):
  assert strokes([clip]).distance(strokes([clip])) == (0, 0)
  assert strokes([clip, clip]).distance(strokes([clip])) == pytest.approx(
    (0, 0), abs=0.5
  )


def test_colours_move_the_colour_distance(clip):
  other = strokes([_recoloured(clip)])
  color, edge = strokes([clip]).distance(other)
  assert color > 10
  assert color > 3 * edge


def test_blur_moves_the_edge_distance(clip):
  soft = ndimage.gaussian_filter(clip, (0, 1.5, 1.5, 0))
  _, edge = strokes([clip]).distance(strokes([soft]))
  assert edge > 1


def test_a_place_does_not_matter(drawing, clip):
  moved = np.roll(clip, 3, axis=2)
  color, edge = strokes([clip]).distance(strokes([moved]))
  assert color < 0.5 and edge < 0.5


def test_distance_of_two_colours_is_known():
  """Flat sprites: the distance is the mean of |difference . direction|."""

  def disc(level):
    frame = np.full((1, 32, 32, 3), 255, np.uint8)
    frame[:, 8:24, 8:24] = level
    return strokes([frame])

  color, _ = disc(0).distance(disc(119))  # L* 0 and about 50.
  # Of 13 directions L* has a part of 1 in one, 1/sqrt(2) in four, 1/sqrt(3) in
  # four, and none in four.
  share = (1 + 4 / 2**0.5 + 4 / 3**0.5) / 13
  assert color == pytest.approx(50 * share, rel=0.02)


def test_nothing_to_be_seen_is_said():
  with pytest.raises(UserError, match="no sprite"):
    strokes([np.full((4, 32, 32, 3), 200, np.uint8)])


def test_row_tells_the_nearer_style(drawing, clip):
  gallery = Gallery(
    (drawing.clip(name, "black", "stays", num_frames=8), name)
    for name in drawing.objects
  )
  styles = {
    "as it is": {"lime disc": strokes([clip])},
    "other": {"lime disc": strokes([_recoloured(clip)])},
  }
  blank = np.full_like(clip, 200)
  row = style_row(
    [(clip, Labels("lime disc", "white", "stays"))] * 2
    + [(blank, Labels("lime disc", "gray", "stays"))],
    styles,
    gallery,
    drawing.palette,
  )
  assert row["n"] == 3
  assert row["color_distance"]["as it is"] == 0
  assert row["color_distance"]["other"] > 10
  assert set(row["edge_distance"]) == set(styles)
