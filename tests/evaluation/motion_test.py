# SPDX-License-Identifier: Apache-2.0
"""Every movement is told from the others, whatever the object does itself."""

import numpy as np
import pytest

from lumiere_jax.evaluation import MOVEMENTS, classify_movement
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.motion import (
  count_turns,
  decide,
  movement_scores,
)


@pytest.mark.parametrize("movement", MOVEMENTS)
def test_movement_is_named(drawing, movement):
  cases = [
    ("azure triangle", "white", 0),
    ("lime disc", "purple", 16),
    ("salmon square", "black", 10),
    ("lime square", "yellow", 4),  # little contrast
  ]
  for seed, (name, background, noise) in enumerate(cases):
    clip = drawing.clip(name, background, movement, noise=noise, seed=seed)
    assert classify_movement(clip) == movement, (name, background)


@pytest.mark.parametrize("turns", [-3.0, -1.0, 0.0, 1.5, 2.0])
def test_turns_are_counted_with_their_sense(drawing, turns):
  frames = [
    drawing.frame(
      "azure square", "white", drawing.Pose(angle=360 * turns * i / 80)
    )
    for i in range(80)
  ]
  assert count_turns(segment(np.stack(frames))) == pytest.approx(turns, abs=0.1)


def test_played_backwards_a_clip_moves_the_other_way(drawing):
  opposite = {
    "slides left": "slides right",
    "slides up": "slides down",
    "grows": "shrinks",
  }
  for movement, reverse in opposite.items():
    clip = drawing.clip("salmon disc", "blue", movement)
    assert classify_movement(clip[::-1]) == reverse


def test_scores_measure_the_movement(drawing):
  clip = drawing.clip("salmon disc", "blue", "slides right")
  scores = movement_scores(segment(clip))
  assert scores["slides right"] == pytest.approx(0.45 / 0.14, rel=0.05)
  assert scores["slides left"] == -scores["slides right"]
  clip = drawing.clip("salmon disc", "blue", "bounces")
  # |sin| has the amplitude 4 / (3 pi) at its double frequency.
  hop = movement_scores(segment(clip))["bounces"] * 0.035
  assert hop == pytest.approx(0.3 * 4 / (3 * np.pi), rel=0.15)


def test_nothing_to_see_stays():
  assert classify_movement(np.full((80, 16, 16, 3), 9, np.uint8)) == "stays"
  noise = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), np.uint8)
  assert classify_movement(noise) == "stays"


def test_decide_needs_a_score_of_one():
  assert decide({"spins": 0.99, "grows": 0.2}) == "stays"
  assert decide({"spins": 1.01, "grows": 1.2}) == "grows"
