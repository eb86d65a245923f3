# SPDX-License-Identifier: Apache-2.0
"""Writes what the gallery's examples start from: real held-out clips, masks.

python docs/gallery_inputs.py --data_dir=data
"""

import argparse
from pathlib import Path

import numpy as np

from lumiere_jax import media
from lumiere_jax.config import DataConfig
from lumiere_jax.data import loader

INPUTS = Path("gallery/inputs")
SCALE = 8  # to 256 pixels, at which players show something
# Name of the file, and which of the held-out clips it is.
CLIPS = {"rocket": 84, "panda": 29, "snowman": 74, "frog": 95}
STILLS = {"ghost": (73, 0), "ghost_last": (73, -1), "flame": (11, 0)}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", required=True)
  args = parser.parse_args()
  cfg = DataConfig(data_dir=args.data_dir, config="demo32", size_px=32)
  last = max(*CLIPS.values(), *(index for index, _ in STILLS.values()))
  clips = list(loader.read_clips(cfg, "held_out", last + 1))
  INPUTS.mkdir(parents=True, exist_ok=True)
  for path in INPUTS.iterdir():
    path.unlink()
  for name, index in CLIPS.items():
    write_video(name, clips[index].video, cfg.fps)
  for name, (index, frame) in STILLS.items():
    write_image(name, clips[index].video[frame])
  moving, still = masks(cfg.num_frames, cfg.size_px)
  write_video("moving_mask", moving, cfg.fps)
  write_image("flame_mask", still)
  (INPUTS / "LICENSE").write_text(
    "The clips and stills in this folder are of the held-out part of the demo's"
    "\ndata set.\n\n" + loader.attribution(cfg)
  )


def masks(num_frames: int, size: int) -> tuple[np.ndarray, np.ndarray]:
  """A white box that slides from left to right, and a white disc."""
  moving = np.zeros((num_frames, size, size, 3), np.uint8)
  side = size // 2
  for i, frame in enumerate(moving):
    x = round((size - side) * i / (num_frames - 1))
    frame[size // 4 : size // 4 + side, x : x + side] = 255
  y, x = np.mgrid[:size, :size] - (size - 1) / 2
  disc = np.hypot(x, y) < 0.42 * size
  return moving, np.repeat(disc[..., None], 3, axis=-1).astype(np.uint8) * 255


def write_video(name: str, clip: np.ndarray, fps: int) -> None:
  media.write_mp4(INPUTS / f"{name}.mp4", clip, fps, scale=SCALE)


def write_image(name: str, image: np.ndarray) -> None:
  large = image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
  media.write_png(INPUTS / f"{name}.png", large)


if __name__ == "__main__":
  main()
