# SPDX-License-Identifier: Apache-2.0
"""How the demo's objects move: movements with their speeds and sizes.

Nine movements make up the small world of emoji_motion. The larger world adds
speeds, sizes, and a path that combines two of them.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from lumiere_jax.errors import UserError, nearest

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

# In units of the frame's side; the origin is the top left corner.
BASE_SCALE = 0.66
SLIDE_SCALE = 0.55
SLIDE_TRAVEL = 0.56
SMALL_SCALE, LARGE_SCALE = 0.4, 0.95
# Of the combined path, whose object must stay in the frame at both ends.
COMBINED_SCALES = 0.35, 0.75
BOUNCE_SCALE = 0.5
BOUNCE_FLOOR = 0.7
BOUNCE_HEIGHT = 0.38


@dataclass(frozen=True)
class Motion:
  """What a caption says about movement, and about size.

  Attributes:
    movement: one of MOVEMENTS or COMBINED.
    speed: a key of SPEEDS[movement]; "" is the usual speed.
    size: a key of SIZES; "" is the usual size.
  """

  movement: str
  speed: str = ""
  size: str = ""

  def __post_init__(self):
    speeds = SPEEDS.get(self.movement, {"": 0.0})
    for value, choices, what in (
      (self.movement, (*MOVEMENTS, *COMBINED), "movement"),
      (self.speed, speeds, f"speed of {self.movement!r}"),
      (self.size, SIZES, "size"),
    ):
      if value not in choices:
        raise UserError(f"unknown {what} {value!r}{nearest(value, choices)}")

  @property
  def rate(self) -> float:
    """Turns or hops a second; 0 of other movements."""
    return SPEEDS.get(self.movement, {}).get(self.speed, 0.0)

  @property
  def name(self) -> str:
    """One string for it: "small bounces quickly"."""
    return " ".join(filter(None, (self.size, self.movement, self.speed)))


def _motions() -> tuple[Motion, ...]:
  plain = [Motion(name) for name in (*MOVEMENTS, *COMBINED)]
  sized = [
    Motion(name, size=size)
    for name, size in itertools.product(
      ("stays", *SLIDES, "spins", "bounces"), SIZES
    )
    if size
  ]
  timed = [
    Motion(name, speed=speed)
    for name, speeds in SPEEDS.items()
    for speed in speeds
    if speed
  ]
  return (*plain, *sized, *timed)


# All motions of the larger world; the first nine are those of emoji_motion.
MOTIONS = _motions()


@dataclass(frozen=True)
class Pose:
  """Center, size (units of the frame's side) and clockwise angle (radians)."""

  x: float = 0.5
  y: float = 0.5
  scale: float = BASE_SCALE
  angle: float = 0.0


def pose_at(motion: Motion, time: float) -> Pose:
  """Where the object is at `time`, 0 at the first frame and 1 at the last."""
  size = SIZES[motion.size]
  if motion.movement in COMBINED:
    small, large = COMBINED_SCALES
    path = pose_at(Motion(motion.movement.removesuffix(" growing")), time)
    return Pose(path.x, path.y, size * (small + (large - small) * time))
  travel = SLIDE_TRAVEL * (time - 0.5)
  growth = (LARGE_SCALE - SMALL_SCALE) * time
  cycles = motion.rate * SECONDS * time
  hop = BOUNCE_HEIGHT * abs(math.sin(math.pi * cycles))
  slide, bounce = size * SLIDE_SCALE, size * BOUNCE_SCALE
  return {
    "stays": Pose(scale=size * BASE_SCALE),
    "slides left": Pose(x=0.5 - travel, scale=slide),
    "slides right": Pose(x=0.5 + travel, scale=slide),
    "slides up": Pose(y=0.5 - travel, scale=slide),
    "slides down": Pose(y=0.5 + travel, scale=slide),
    "grows": Pose(scale=SMALL_SCALE + growth),
    "shrinks": Pose(scale=LARGE_SCALE - growth),
    "spins": Pose(scale=size * BASE_SCALE, angle=2 * math.pi * cycles),
    "bounces": Pose(y=BOUNCE_FLOOR - hop, scale=bounce),
  }[motion.movement]
