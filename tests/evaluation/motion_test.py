# SPDX-License-Identifier: Apache-2.0
"""Every movement is told from the others, whatever the object does itself."""

import math

import numpy as np
import pytest

from lumiere_jax.evaluation import classify_movement
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.motion import (
  THRESHOLDS,
  decide,
  measure_motions,
  nearest_name,
)
from lumiere_jax.movements import MOVEMENTS, SECONDS, SIZES, SPEEDS


def clip_of(drawing, poses, name="salmon disc"):
  return np.stack([drawing.frame(name, "blue", pose) for pose in poses])


def times(num_frames=80):
  return np.arange(num_frames) / (num_frames - 1)


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
  scores = measure_motions(segment(clip)).scores
  slide = 0.45 / THRESHOLDS["slide"]
  assert scores["slides right"] == pytest.approx(slide, rel=0.05)
  assert scores["slides left"] == -scores["slides right"]
  clip = drawing.clip("salmon disc", "blue", "bounces")
  # |sin| has the amplitude 4 / (3 pi) at its double frequency.
  hop = measure_motions(segment(clip)).scores["bounces"] * THRESHOLDS["hop"]
  assert hop == pytest.approx(0.3 * 4 / (3 * np.pi), rel=0.15)


@pytest.mark.parametrize("speed", SPEEDS["bounces"])
def test_hops_of_every_rate_are_counted(drawing, speed):
  rate = SPEEDS["bounces"][speed]
  heights = 0.25 * np.abs(np.sin(np.pi * rate * SECONDS * times()))
  poses = [drawing.Pose(y=0.65 - height, size=0.4) for height in heights]
  clip = clip_of(drawing, poses)
  motions = measure_motions(segment(clip))
  assert decide(motions.scores) == "bounces"
  assert motions.rates["bounces"] == pytest.approx(rate, abs=0.03)
  assert nearest_name(SPEEDS["bounces"], motions.rates["bounces"]) == speed


@pytest.mark.parametrize("speed", SPEEDS["spins"])
def test_turns_of_every_rate_are_counted(drawing, speed):
  rate = SPEEDS["spins"][speed]
  angles = 360 * rate * SECONDS * times()
  clip = clip_of(drawing, [drawing.Pose(angle=angle) for angle in angles])
  motions = measure_motions(segment(clip))
  assert decide(motions.scores) == "spins"
  assert motions.rates["spins"] == pytest.approx(rate, abs=0.03)


def test_an_object_that_circles_does_not_bounce(drawing):
  phase = 2 * np.pi * 4 * times()
  x, y = 0.5 + 0.15 * np.cos(phase), 0.5 + 0.15 * np.sin(phase)
  poses = [drawing.Pose(x=a, y=b, size=0.4) for a, b in zip(x, y, strict=True)]
  assert measure_motions(segment(clip_of(drawing, poses))).scores["bounces"] < 1


def test_a_slide_with_growth_is_neither_alone(drawing):
  poses = [
    drawing.Pose(x=0.7 - 0.4 * time, size=0.3 + 0.35 * time)
    for time in times(20)
  ]
  clip = clip_of(drawing, poses)
  assert classify_movement(clip) == "slides left growing"
  # There is no word for the other way round.
  assert classify_movement(clip[::-1]) in ("slides right", "shrinks")


@pytest.mark.parametrize("growth", [0.05, 0.25])
def test_little_growth_leaves_a_slide_a_slide(drawing, growth):
  poses = [
    drawing.Pose(y=0.3 + 0.4 * time, size=0.4 * math.exp(growth * time))
    for time in times(20)
  ]
  assert classify_movement(clip_of(drawing, poses)) == "slides down"


def test_nothing_to_see_stays():
  assert classify_movement(np.full((80, 16, 16, 3), 9, np.uint8)) == "stays"
  noise = np.random.default_rng(0).integers(0, 256, (80, 16, 16, 3), np.uint8)
  assert classify_movement(noise) == "stays"
  assert classify_movement(noise[:3]) == "stays"


def test_decide_needs_a_score_of_one():
  assert decide({"spins": 0.99, "grows": 0.2}) == "stays"
  assert decide({"spins": 1.01, "grows": 1.2}) == "grows"


def test_names_change_at_the_middle_of_the_logarithms():
  for usual, other in (("", "small"), ("", "big")):
    middle = math.sqrt(SIZES[usual] * SIZES[other])
    towards = 1.01 if SIZES[other] > SIZES[usual] else 0.99
    assert nearest_name(SIZES, middle * towards) == other
    assert nearest_name(SIZES, middle / towards) == usual
  assert nearest_name(SIZES, 0.0) == "small"
