# SPDX-License-Identifier: Apache-2.0
"""Turning is told from standing and rocking, its rate found, blurred or not."""

import numpy as np
import pytest

from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.motion import THRESHOLDS
from lumiere_jax.evaluation.turning import (
  find_turning,
  rates,
  turning_shares,
)

FRAMES = 80
THRESHOLD = THRESHOLDS["turning"]


def turned(drawing, angles, name="azure square", px=32):
  """A clip of one object at these angles, in degrees."""
  frames = [
    drawing.frame(name, "white", drawing.Pose(angle=angle), px)
    for angle in angles
  ]
  return np.stack(frames)


def blurred(drawing, name, turns, seed):
  """A turning object as generated ones look: details differ in every frame.

  Each frame is the mean of the object at seven angles drawn from the 80
  degrees around the right one.
  """
  rng = np.random.default_rng(seed)
  frames = []
  for i in range(FRAMES):
    angles = 360 * turns * i / (FRAMES - 1) + rng.uniform(-40, 40, 7)
    clip = turned(drawing, angles, name)
    frames.append(clip.astype(np.float64).mean(axis=0))
  clip = np.stack(frames) + rng.normal(0, 6, (FRAMES, 32, 32, 3))
  return np.clip(clip.round(), 0, 255).astype(np.uint8)


def test_shares_of_a_turning_spectrum():
  rng = np.random.default_rng(0)
  picture = rng.normal(size=(7, 4)) + 1j * rng.normal(size=(7, 4))
  time = np.arange(FRAMES)[:, None, None] / (FRAMES - 1)
  k = np.arange(1, 5)
  spectrum = picture * np.exp(-2j * np.pi * k * 3 * time)
  turns = np.array([3.0, -3.0, 0.0])
  ahead, back, still = turning_shares(spectrum, turns)
  assert ahead == pytest.approx(1)
  assert back == pytest.approx(0, abs=0.01)
  assert still == pytest.approx(0, abs=0.01)
  half = turning_shares(spectrum + picture, turns)
  assert half == pytest.approx([0.5, 0, 0.5], abs=0.02)
  noise = rng.normal(size=(FRAMES, 40, 4)) + 0j
  assert turning_shares(noise, turns).max() < 0.006


@pytest.mark.parametrize("turns", [-15, -6, -1, 1, 2, 6, 15])
def test_turns_are_counted_with_their_sense(drawing, turns):
  clip = turned(drawing, 360 * turns * np.arange(FRAMES) / (FRAMES - 1))
  found = find_turning(segment(clip))
  assert found.turns == pytest.approx(turns, abs=0.11)
  assert found.score > 0.9


@pytest.mark.parametrize("reach", [0, 15, 60])
def test_rocking_is_not_turning(drawing, reach):
  for cycles in (1, 5 / 3, 5):  # 5 / 3: a loop of 48 frames
    phase = 2 * np.pi * cycles * np.arange(FRAMES) / FRAMES
    clip = turned(drawing, reach * np.sin(phase), "salmon triangle")
    assert find_turning(segment(clip)).score < THRESHOLD


@pytest.mark.parametrize("name", ["lime triangle", "azure disc"])
def test_blurred_objects_turn_too(drawing, name):
  found = find_turning(segment(blurred(drawing, name, 2, seed=1)))
  assert found.turns == pytest.approx(2, abs=0.3)
  assert found.score > 2 * THRESHOLD
  still = find_turning(segment(blurred(drawing, name, 0, seed=1)))
  assert still.score < THRESHOLD / 2


def test_turning_is_found_in_frames_of_64_pixels(drawing):
  clip = turned(drawing, 4.6 * np.arange(FRAMES), "lime disc", px=64)
  assert find_turning(segment(clip)).turns == pytest.approx(1, abs=0.11)


def test_of_few_frames_only_slow_turns_are_asked_for():
  assert rates(80, 0.9)[[0, -1]] == pytest.approx([0.9, 18])
  assert rates(17, 0.9)[-1] == pytest.approx(4)
  assert len(rates(3, 0.9)) == 0
  clip = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
  assert find_turning(segment(clip)) == (0, 0)
