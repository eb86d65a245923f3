# SPDX-License-Identifier: Apache-2.0
"""How the demo's objects move: movements with their speeds and sizes.

Nine movements make up the small world of emoji_motion. The larger world adds
speeds, sizes, and a path that combines two of them.
"""

import itertools
import math
from dataclasses import dataclass

from lumiere_jax.errors import UserError, nearest
from lumiere_jax.movements import (
  COMBINED,
  MOVEMENTS,
  SECONDS,
  SIZES,
  SPEEDS,
  USUAL_SCALES,
)

# In units of the frame's side; the origin is the top left corner.
SLIDE_TRAVEL = 0.56
SMALL_SCALE, LARGE_SCALE = 0.4, 0.95
# Of the combined path, whose object must stay in the frame at both ends.
COMBINED_SCALES = 0.35, 0.75
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
    for name, size in itertools.product(USUAL_SCALES, SIZES)
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
  scale: float = USUAL_SCALES["stays"]
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
  scale = size * USUAL_SCALES.get(motion.movement, 1.0)
  return {
    "stays": Pose(scale=scale),
    "slides left": Pose(x=0.5 - travel, scale=scale),
    "slides right": Pose(x=0.5 + travel, scale=scale),
    "slides up": Pose(y=0.5 - travel, scale=scale),
    "slides down": Pose(y=0.5 + travel, scale=scale),
    "grows": Pose(scale=SMALL_SCALE + growth),
    "shrinks": Pose(scale=LARGE_SCALE - growth),
    "spins": Pose(scale=scale, angle=2 * math.pi * cycles),
    "bounces": Pose(y=BOUNCE_FLOOR - hop, scale=scale),
  }[motion.movement]
