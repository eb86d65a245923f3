# SPDX-License-Identifier: Apache-2.0
"""Draws a clip: a looping sprite that moves over a flat background."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from lumiere_jax.data.animation import Loop
from lumiere_jax.data.motion import Motion, Pose, pose_at
from lumiere_jax.shapes import VideoU8


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


class ClipSize(NamedTuple):
  """Frames of a clip, and pixels of its side."""

  num_frames: int
  size_px: int


def draw_params(rng: np.random.Generator, loop: int) -> ClipParams:
  """Draws a clip's own parameters for a sprite with `loop` frames."""
  return ClipParams(
    phase=int(rng.integers(loop)),
    scale=float(rng.uniform(0.94, 1.04)),
    dx=float(rng.uniform(-0.03, 0.03)),
    dy=float(rng.uniform(-0.03, 0.03)),
  )


def premultiplied(frames: Loop) -> Loop:
  """Returns the frames with colors multiplied by alpha, as drawing takes them.

  Args:
    frames: one loop with straight alpha.
  """
  return np.stack(
    [np.asarray(Image.fromarray(frame).convert("RGBa")) for frame in frames]
  )


def render_clip(
  sprite: Loop,
  background_rgb: tuple[int, int, int],
  motion: Motion,
  params: ClipParams,
  num_frames: int,
  size_px: int,
) -> VideoU8:
  """Draws all `num_frames` frames of a clip, of `size_px` pixels a side."""
  clip = ClipSize(num_frames, size_px)
  return render_frames(
    sprite, background_rgb, motion, params, clip, range(num_frames)
  )


def render_frames(
  sprite: Loop,
  background_rgb: tuple[int, int, int],
  motion: Motion,
  params: ClipParams,
  clip: ClipSize,
  frames: Sequence[int],
) -> VideoU8:
  """Draws some frames of a clip, the sprite looping.

  Each frame is drawn at about the sprite's own resolution and box-filtered
  down, so that a slow movement shifts gray levels instead of flickering.
  Alpha is premultiplied throughout; where the sprite is absent the background
  is exact.

  Args:
    sprite: one loop, premultiplied.
    background_rgb: color of the background.
    motion: how the object moves.
    params: what differs between clips of the same scene.
    clip: size of the whole clip.
    frames: numbers of the frames to draw.
  """
  last = max(1, clip.num_frames - 1)
  drawn = np.stack(
    [
      _draw(
        sprite[(params.phase + index) % len(sprite)],
        pose_at(motion, index / last),
        params,
        clip.size_px,
      )
      for index in frames
    ]
  ).astype(np.uint16)
  through = 255 - drawn[..., 3:]
  behind = (through * np.asarray(background_rgb, np.uint16) + 127) // 255
  return np.minimum(drawn[..., :3] + behind, 255).astype(np.uint8)


def _draw(
  frame: np.ndarray, pose: Pose, params: ClipParams, size_px: int
) -> np.ndarray:
  """One frame over nothing, premultiplied: (h w 4) uint8."""
  height, width = frame.shape[:2]
  factor = max(1, round(height / size_px))
  canvas = size_px * factor
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
  pixels = np.ascontiguousarray(frame)
  image = Image.frombuffer("RGBa", (width, height), pixels, "raw", "RGBa", 0, 1)
  image = image.transform(
    (canvas, canvas),
    Image.Transform.AFFINE,
    matrix,
    Image.Resampling.BILINEAR,
  )
  return np.asarray(image.reduce(factor))
