# SPDX-License-Identifier: Apache-2.0
"""Draws clips of patterned shapes that wiggle of themselves while they move."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lumiere_jax.evaluation import Gallery

PALETTE = {
  "red": (214, 32, 40),
  "orange": (255, 136, 0),
  "yellow": (255, 228, 50),
  "green": (30, 150, 60),
  "blue": (30, 70, 210),
  "purple": (124, 40, 168),
  "pink": (255, 158, 206),
  "brown": (115, 68, 32),
  "white": (255, 255, 255),
  "black": (0, 0, 0),
  "gray": (128, 128, 128),
  "turquoise": (60, 208, 200),
}
# Name: corners of the outline, and its colour. Shape alone or colour alone
# would not tell all of them apart.
OBJECTS = {
  f"{color} {shape}": (corners, rgb)
  for shape, corners in {"triangle": 3, "square": 4, "disc": 60}.items()
  for color, rgb in {
    "azure": (90, 170, 255),
    "lime": (170, 240, 60),
    "salmon": (250, 120, 100),
  }.items()
}
_SIDE = 96


@dataclass(frozen=True, kw_only=True)
class Pose:
  """Where an object stands, in units of the frame; degrees clockwise."""

  x: float = 0.5
  y: float = 0.5
  size: float = 0.5
  angle: float = 0.0


@functools.cache
def sprite(name: str) -> Image.Image:
  """An outline with one dark wedge and one white eye: it has no symmetry."""
  corners, rgb = OBJECTS[name]
  image = Image.new("RGBA", (_SIDE, _SIDE))
  pen = ImageDraw.Draw(image)
  middle, reach = _SIDE / 2, _SIDE * 0.47
  angles = [2 * math.pi * i / corners for i in range(corners)]
  pen.polygon(
    [
      (middle + reach * math.sin(a), middle - reach * math.cos(a))
      for a in angles
    ],
    fill=rgb,
  )
  pen.pieslice((20, 20, 76, 76), 100, 190, fill=(50, 30, 60))
  pen.ellipse((50, 34, 62, 46), fill=(245, 245, 245))
  return image


def pose_at(movement: str, time: float) -> Pose:
  way = 0.45 * (time - 0.5)
  hop = 0.3 * abs(math.sin(4 * math.pi * time))
  return {
    "stays": Pose(),
    "slides left": Pose(x=0.5 - way),
    "slides right": Pose(x=0.5 + way),
    "slides up": Pose(y=0.5 - way),
    "slides down": Pose(y=0.5 + way),
    "grows": Pose(size=0.35 + 0.5 * time),
    "shrinks": Pose(size=0.85 - 0.5 * time),
    "spins": Pose(angle=720 * time),
    "bounces": Pose(y=0.68 - hop, size=0.45),
  }[movement]


def draw_frame(name: str, background: str, pose: Pose, px: int = 32):
  """One uint8 (px, px, 3) frame, drawn large and scaled down."""
  large = 3 * px
  canvas = Image.new("RGB", (large, large), PALETTE[background])
  side = max(2, round(large * pose.size))
  turned = sprite(name).rotate(-pose.angle, Image.Resampling.BICUBIC)
  turned = turned.resize((side, side), Image.Resampling.BILINEAR)
  corner = [round(large * at - side / 2) for at in (pose.x, pose.y)]
  canvas.paste(turned, tuple(corner), turned)
  return np.asarray(canvas.reduce(3))


def draw_clip(
  name: str,
  background: str,
  movement: str,
  num_frames: int = 80,
  noise: float = 0.0,
  seed: int = 0,
):
  """A uint8 (t, 32, 32, 3) clip; the object also rocks and bobs by itself."""
  rng = np.random.default_rng(seed)
  start = rng.uniform(0, 2 * math.pi)
  frames = []
  for i in range(num_frames):
    pose = pose_at(movement, i / max(1, num_frames - 1))
    # Its own animation: 5/3 loops, as emoji of 48 frames in 80.
    wiggle = math.sin(start + 2 * math.pi * i / num_frames * 5 / 3)
    frames.append(
      draw_frame(
        name,
        background,
        Pose(
          x=pose.x + 0.02,
          y=pose.y + 0.02 * wiggle,
          size=pose.size * (1 + 0.05 * wiggle),
          angle=pose.angle + 9 * wiggle,
        ),
      )
    )
  clip = np.stack(frames) + rng.normal(0, noise, (num_frames, 32, 32, 3))
  return np.clip(clip.round(), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Drawing:
  """What the tests draw with."""

  palette = PALETTE
  objects = tuple(sorted(OBJECTS))
  Pose = Pose
  clip = staticmethod(draw_clip)
  frame = staticmethod(draw_frame)


@pytest.fixture(scope="session")
def drawing() -> Drawing:
  return Drawing()


@pytest.fixture(scope="session")
def gallery(drawing) -> Gallery:
  """Every object on two backgrounds."""
  return Gallery(
    (drawing.clip(name, background, "stays", num_frames=8), name)
    for name in drawing.objects
    for background in ("white", "black")
  )
