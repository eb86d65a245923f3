# SPDX-License-Identifier: Apache-2.0
"""Writes clips of emoji_motion as files, to score others against them.

python docs/real_clips.py --data_dir=data --count=512 --out=real: of each an
animated WebP, which keeps every pixel, and its caption as .txt; beside the
folder, in real.txt, all captions, for `lumiere_jax.sample --prompts`.
"""

import argparse
from pathlib import Path

from lumiere_jax import media
from lumiere_jax.config import DataConfig
from lumiere_jax.data import loader


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  add = parser.add_argument
  add("--data_dir", required=True)
  add("--config", default="demo32", help="of the data set")
  add("--split", default="held_out")
  add("--count", type=int, default=512)
  add("--out", required=True, help="folder to write")
  args = parser.parse_args()
  size = int("".join(filter(str.isdigit, args.config)))
  cfg = DataConfig(data_dir=args.data_dir, config=args.config, size_px=size)
  out, captions = Path(args.out), []
  for index, clip in enumerate(loader.read_clips(cfg, args.split, args.count)):
    media.write_webp(out / f"{index:05d}.webp", clip.video, cfg.fps)
    (out / f"{index:05d}.txt").write_text(clip.caption + "\n")
    captions.append(clip.caption)
  out.with_suffix(".txt").write_text("\n".join(captions) + "\n")


if __name__ == "__main__":
  main()
