# SPDX-License-Identifier: Apache-2.0
"""The movements that captions speak of, which are drawn and measured."""

from collections.abc import Mapping

MOVEMENTS = (
  "stays",
  "slides left",
  "slides right",
  "slides up",
  "slides down",
  "grows",
  "shrinks",
  "spins",
  "bounces",
)
SLIDES = MOVEMENTS[1:5]
# A slide during which the object grows.
COMBINED = tuple(f"{slide} growing" for slide in SLIDES)

SECONDS = 5.0  # of a clip
# Turns and hops a second. At 16 frames a second the fastest turn is 67 degrees
# a frame.
SPEEDS: Mapping[str, Mapping[str, float]] = {
  "spins": {"": 0.4, "slowly": 0.2, "quickly": 1.2, "very fast": 3.0},
  "bounces": {"": 0.8, "slowly": 0.4, "quickly": 1.6, "very fast": 3.0},
}
# Factors on the object's height.
SIZES: Mapping[str, float] = {"": 1.0, "small": 0.65, "big": 1.35}
# The object's height at the usual size, in units of the frame's side; of
# movements that leave it as it is, which are those that have sizes.
USUAL_SCALES: Mapping[str, float] = {
  "stays": 0.66,
  **dict.fromkeys(SLIDES, 0.55),
  "spins": 0.66,
  "bounces": 0.5,
}


def drawn_scale(movement: str, size: str = "") -> float | None:
  """Height of an object that moves so, in frame sides; None if it changes."""
  usual = USUAL_SCALES.get(movement)
  return None if usual is None else usual * SIZES[size]
