# SPDX-License-Identifier: Apache-2.0
"""How many clips a second the loader gives.

python -m lumiere_jax.data.throughput --source_px=256 --out=throughput.json

measures H.264 videos that it makes itself; with --config=... and
--config.data.FIELD=... any data that can be trained on, among them
--config.data.num_workers. The result is JSON: "clips_per_second" on the clock,
as training gets them, and "clips_per_core_second" of the processor's time, read
one after the other in one thread.
"""

import dataclasses
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lumiere_jax import cli, media
from lumiere_jax.config import DataConfig
from lumiere_jax.data import loader
from lumiere_jax.data.batches import AHEAD
from lumiere_jax.shapes import UInt8

_VIDEOS = 8


def main(argv: Sequence[str]) -> None:
  """Measures what the flags ask for."""
  parser = cli.Parser(prog="lumiere_jax.data.throughput", description=__doc__)
  add = parser.add_argument
  add("--config", help="a configs/*.py file; the default is 80 x 128 x 128")
  add("--clips", type=int, default=64, help="clips that are timed")
  add("--batch_size", type=int, default=2)
  add("--source_px", type=int, default=128, help="height of made videos")
  add("--source_fps", type=int, default=24)
  add("--source_seconds", type=int, default=10)
  add("--out", help="JSON file to write")
  args, overrides = cli.parse(parser, argv)
  for name in ("clips", "batch_size", "source_fps", "source_seconds"):
    if getattr(args, name) <= 0:
      parser.error(f"--{name}={getattr(args, name)} must be > 0")
  if args.source_px < 16:
    parser.error(f"--source_px={args.source_px} must be >= 16")
  if args.out:
    media.check_free(args.out)
  values = (
    cli.read_config(args.config) if args.config else {"data": {"size_px": 128}}
  )
  cfg = cli.resolve(values, overrides).data
  made = not args.config and "data.data_dir" not in overrides
  with tempfile.TemporaryDirectory() as folder:
    if made:
      size = (args.source_px // 2 * 2, args.source_px * 16 // 9 // 2 * 2)
      make_videos(Path(folder), size, args.source_fps, args.source_seconds)
      cfg = dataclasses.replace(cfg, kind="folder", data_dir=folder)
    result = measure(cfg, args.clips, args.batch_size)
  if made:
    result["source"] = {
      "codec": "h264",
      "size": list(size),
      "fps": args.source_fps,
      "seconds": args.source_seconds,
    }
  text = json.dumps(result, indent=2)
  print(text)
  if args.out:
    with media.new_file(args.out) as temporary:
      temporary.write_text(text + "\n", encoding="utf-8")


def measure(cfg: DataConfig, clips: int, batch_size: int) -> dict[str, Any]:
  """Times the loader, after a first batch and after what it reads ahead.

  Args:
    cfg: the data, of which clips are read as in stage "video".
    clips: how many at least.
    batch_size: in how large batches.

  Raises:
    UserError: as in `make_loader`.
  """
  batches = loader.make_loader(
    cfg, stage="video", batch_size=batch_size, seed=0
  )
  count = -(-clips // batch_size)
  number = count * batch_size
  batches.read(0)
  cpu = time.process_time()
  for position in range(1, count + 1):
    batches.read(position)
  cpu = time.process_time() - cpu
  # What was read ahead while it began is not of this speed.
  for _ in range(AHEAD * (1 + cfg.num_workers)):
    next(batches)
  wall = time.perf_counter()
  for _ in range(count):
    next(batches)
  wall = time.perf_counter() - wall
  return {
    "clips": number,
    "clip": list(cfg.train_size),
    "clips_per_second": round(number / wall, 3),
    "clips_per_core_second": round(number / cpu, 3),
    "frames_per_second": round(number * cfg.train_size[0] / wall, 1),
    "num_workers": cfg.num_workers,
    "batch_size": batch_size,
    "cores": len(os.sched_getaffinity(0)),
    "machine": platform.machine(),
    "broken": dict(batches.ledger.broken),
  }


def make_videos(
  folder: Path, size: tuple[int, int], fps: int, seconds: int
) -> None:
  """Writes captioned videos of a drifting landscape with some grain."""
  for number in range(_VIDEOS):
    path = folder / f"v{number}.mp4"
    frames = _frames(number, size, fps * seconds)
    # As cameras and sites encode: a keyframe every two seconds.
    media.encode_mp4(path, frames, size, fps, crf="23", g=str(2 * fps))
    path.with_suffix(".txt").write_text(f"landscape {number}\n")


def _frames(
  seed: int, size: tuple[int, int], count: int
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
  rng = np.random.default_rng(seed)
  height, width = size
  steps = 2 * count
  # One landscape, smooth and grained, that is passed by.
  coarse = rng.integers(0, 256, (9, 9 + (width + steps) // 30, 3), np.uint8)
  smooth = Image.fromarray(coarse).resize((width + steps, height), 3)
  grain = rng.integers(-9, 10, (height, width + steps, 1))
  image = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
  for t in range(count):
    yield np.ascontiguousarray(image[:, 2 * t : 2 * t + width])


if __name__ == "__main__":
  cli.run(main)
