# SPDX-License-Identifier: Apache-2.0
"""Draws a clip: a looping sprite that moves over a flat background."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lumiere_jax.data.animation import Loop
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import VideoU8

# In units of the frame's side; origin at the top left.
BASE_SCALE = 0.66
SLIDE_SCALE = 0.55
SLIDE_TRAVEL = 0.56
SMALL_SCALE, LARGE_SCALE = 0.4, 0.95
BOUNCE_SCALE = 0.5
BOUNCE_FLOOR = 0.7
BOUNCE_HEIGHT = 0.38
BOUNCES = 4
TURNS = 2


@dataclass(frozen=True, kw_only=True)
class ClipParams:
  """What differs between clips of the same combination.

  Attributes:
    phase: frame of the loop that the clip starts with.
    scale: factor on the object's size.
    dx: shift to the right, in units of the frame's side.
    dy: shift downwards.
  """

  phase: int = 0
  scale: float = 1.0
  dx: float = 0.0
  dy: float = 0.0


@dataclass(frozen=True)
class Pose:
  """Centre, size (units of the frame's side) and clockwise angle (radians)."""

  x: float = 0.5
  y: float = 0.5
  scale: float = BASE_SCALE
  angle: float = 0.0


def draw_params(rng: np.random.Generator, loop: int) -> ClipParams:
  """Draws a clip's own parameters for a sprite with `loop` frames."""
  return ClipParams(
    phase=int(rng.integers(loop)),
    scale=float(rng.uniform(0.94, 1.04)),
    dx=float(rng.uniform(-0.03, 0.03)),
    dy=float(rng.uniform(-0.03, 0.03)),
  )


def pose_at(movement: str, time: float) -> Pose:
  """Where the object stands at `time` in 0 .. 1 of the clip.

  Raises:
    UserError: unknown movement.
  """
  travel = SLIDE_TRAVEL * (time - 0.5)
  growth = (LARGE_SCALE - SMALL_SCALE) * time
  hop = BOUNCE_HEIGHT * abs(math.sin(BOUNCES * math.pi * time))
  poses = {
    "stays": Pose(),
    "slides left": Pose(x=0.5 - travel, scale=SLIDE_SCALE),
    "slides right": Pose(x=0.5 + travel, scale=SLIDE_SCALE),
    "slides up": Pose(y=0.5 - travel, scale=SLIDE_SCALE),
    "slides down": Pose(y=0.5 + travel, scale=SLIDE_SCALE),
    "grows": Pose(scale=SMALL_SCALE + growth),
    "shrinks": Pose(scale=LARGE_SCALE - growth),
    "spins": Pose(angle=2 * math.pi * TURNS * time),
    "bounces": Pose(y=BOUNCE_FLOOR - hop, scale=BOUNCE_SCALE),
  }
  if movement not in poses:
    raise UserError(f"unknown movement {movement!r}{nearest(movement, poses)}")
  return poses[movement]


def render_clip(
  sprite: Loop,
  background_rgb: tuple[int, int, int],
  movement: str,
  params: ClipParams,
  num_frames: int,
  size_px: int,
) -> VideoU8:
  """Draws `num_frames` frames of `size_px` pixels, the sprite looping.

  Each frame is drawn at about the sprite's own resolution and box-filtered
  down, so that a slow movement shifts grey levels instead of flickering.
  Alpha is premultiplied throughout; where the sprite is absent the background
  is exact.
  """
  last = max(1, num_frames - 1)
  factor = max(1, round(sprite.shape[1] / size_px))
  drawn = np.stack(
    [
      _draw(
        sprite[(params.phase + index) % len(sprite)],
        pose_at(movement, index / last),
        params,
        size_px,
        factor,
      )
      for index in range(num_frames)
    ]
  ).astype(np.uint16)
  through = 255 - drawn[..., 3:]
  behind = (through * np.asarray(background_rgb, np.uint16) + 127) // 255
  return np.minimum(drawn[..., :3] + behind, 255).astype(np.uint8)


def _draw(
  frame: np.ndarray, pose: Pose, params: ClipParams, size_px: int, factor: int
) -> np.ndarray:
  """One frame over nothing, premultiplied: (h w 4) uint8."""
  canvas = size_px * factor
  height, width = frame.shape[:2]
  zoom = pose.scale * params.scale * canvas / height
  cos, sin = math.cos(pose.angle) / zoom, math.sin(pose.angle) / zoom
  x, y = (pose.x + params.dx) * canvas, (pose.y + params.dy) * canvas
  # Pillow asks where in the sprite each pixel of the canvas comes from.
  matrix = (
    cos,
    sin,
    width / 2 - cos * x - sin * y,
    -sin,
    cos,
    height / 2 + sin * x - cos * y,
  )
  image = Image.fromarray(frame).convert("RGBa")
  image = image.transform(
    (canvas, canvas),
    Image.Transform.AFFINE,
    matrix,
    Image.Resampling.BILINEAR,
  )
  return np.asarray(image.reduce(factor))
