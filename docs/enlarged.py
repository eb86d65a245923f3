# SPDX-License-Identifier: Apache-2.0
"""Draws held-out clips made small and enlarged, beside what they were.

python docs/enlarged.py --data_dir=data --made=clips/upscale_real \
  --out=docs/enlarged.png

--made is what `lumiere_jax.evaluate --tasks=upscale --clips=clips` keeps. The
rows: the small frame, Lanczos, super-resolution, the real frame.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from lumiere_jax import media
from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.task import Material
from lumiere_jax.data import loader
from lumiere_jax.evaluation.enlargement import filtered
from lumiere_jax.inference.cascade import reduced

FRAME = 40
ENLARGED = 2  # of the picture, so that pixels are seen


def column(real: np.ndarray, made: np.ndarray, scale: int) -> np.ndarray:
  """One frame of a clip in all ways, one below the other."""
  small = reduced(Material(video=real[FRAME : FRAME + 1]), scale).video
  repeated = small.repeat(scale, axis=1).repeat(scale, axis=2)
  lanczos = filtered(small, scale, "lanczos")
  return np.concatenate([repeated[0], lanczos[0], made[FRAME], real[FRAME]])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--weights", default="demo_ssr")
  parser.add_argument("--data_dir", required=True)
  parser.add_argument("--made", required=True, type=Path)
  parser.add_argument("--out", required=True)
  parser.add_argument("--count", type=int, default=6)
  args = parser.parse_args()
  config = Lumiere.load(args.weights).config
  data = replace(config.data, data_dir=args.data_dir)
  made = map(np.load, sorted(args.made.glob("*.npy")))
  real = loader.read_clips(data, "held_out", args.count)
  columns = [
    column(clip.video, large, config.condition.scale)
    for clip, large in zip(real, made, strict=False)  # More may be kept.
  ]
  picture = np.concatenate(columns, axis=1)
  picture = picture.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)
  media.write_png(args.out, picture)


if __name__ == "__main__":
  main()
