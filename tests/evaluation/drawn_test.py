# SPDX-License-Identifier: Apache-2.0
"""Of clips of real sprites every motion, speed and size is recognized."""

from pathlib import Path

import numpy as np
import pytest

from lumiere_jax.data import pack, render
from lumiere_jax.data.motion import MOTIONS, Motion
from lumiere_jax.data.world import BACKGROUNDS
from lumiere_jax.evaluation import Gallery, Labels, evaluate_rows
from lumiere_jax.movements import drawn_scale

SPRITES = Path(__file__).parents[1] / "fixtures" / "sprites"
INFOS = pack.read_index(SPRITES)


@pytest.fixture(scope="module")
def draw():
  """Draws a clip of a sprite, given by its number, that moves so."""
  loops = [
    render.premultiplied(pack.read_sprite(SPRITES, info).frames)
    for info in INFOS
  ]

  def drawn(number, background, motion, num_frames=80, px=32):
    loop = loops[number % len(loops)]
    rng = np.random.default_rng([number, num_frames])
    params = render.draw_params(rng, len(loop))
    rgb = BACKGROUNDS[background]
    return render.render_clip(loop, rgb, motion, params, num_frames, px)

  return drawn


@pytest.fixture(scope="module")
def references(draw):
  """Clips of every sprite, two of each, with the size it is drawn with."""
  return Gallery(
    (
      draw(number, background, Motion(movement), num_frames=16),
      info.label,
      drawn_scale(movement),
    )
    for number, info in enumerate(INFOS)
    for background, movement in (("gray", "stays"), ("turquoise", "bounces"))
  )


def test_every_motion_is_recognized(draw, references):
  backgrounds = list(BACKGROUNDS)
  row = []
  for number, motion in enumerate(MOTIONS):
    background = backgrounds[number % len(backgrounds)]
    name = INFOS[number % len(INFOS)].label
    labels = Labels(
      name, background, motion.movement, motion.speed, motion.size
    )
    row.append((draw(number, background, motion), labels))
  report = evaluate_rows({"real": row}, references, BACKGROUNDS, True)["real"]
  seen = report["confusion"]
  for kind in ("movement", "speed", "size"):
    assert all(set(found) == {asked} for asked, found in seen[kind].items())
  assert report["speed_accuracy"] == report["size_accuracy"] == 1
  assert report["n_speed"] == 12
  assert report["n_size"] == len(MOTIONS) - 6
  assert len(report["by_movement"]) == 13
  assert report["background_noise"] < 0.1


def test_a_size_is_that_of_the_object_and_movement_asked_for(draw, references):
  label = INFOS[1].label
  clip = draw(1, "white", Motion("stays"))
  asked = Labels(label, "white", "stays")
  rows = {
    # About as large as a big one that bounces.
    "seen": [(clip, asked._replace(movement="bounces", size="big"))],
    "held_out": [(clip, asked._replace(size="big"))],
    "real": [(clip, asked)],
  }
  report = evaluate_rows(rows, references, BACKGROUNDS, allow_small=True)
  assert report["real"]["size_accuracy"] == report["seen"]["size_accuracy"] == 1
  assert report["held_out"]["size_accuracy"] == 0
  assert report["held_out"]["confusion"]["size"] == {"big": {"usual": 1}}
