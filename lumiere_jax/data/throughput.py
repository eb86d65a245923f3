# SPDX-License-Identifier: Apache-2.0
"""How many clips a second the loader gives, and videos to measure it with."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lumiere_jax import media
from lumiere_jax.config import DataConfig
from lumiere_jax.data import loader
from lumiere_jax.data.batches import AHEAD
from lumiere_jax.shapes import UInt8

_VIDEOS = 8


def measure(
  cfg: DataConfig, clips: int, batch_size: int, rounds: int = 1
) -> dict[str, Any]:
  """Times the loader, after a first batch and after what it reads ahead.

  Args:
    cfg: the data, of which clips are read as in stage "video".
    clips: how many at least.
    batch_size: in how large batches.
    rounds: parts that are timed each by itself, at most one for each batch.

  Returns:
    Among others "clips_per_second" on the clock, as training gets them, of all
    rounds; "rounds", in seconds a clip; "warm_up_seconds" of reading ahead
    before; and "clips_per_core_second" of the processor's time, read
    one after the other in one thread.

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
  began = time.perf_counter()
  for _ in range(AHEAD * (1 + cfg.num_workers)):
    next(batches)
  warm_up = time.perf_counter() - began
  parts = [len(p) for p in np.array_split(range(count), min(rounds, count))]
  seconds = []
  for part in parts:
    began = time.perf_counter()
    for _ in range(part):
      next(batches)
    seconds.append(time.perf_counter() - began)
  wall = sum(seconds)
  return {
    "clips": number,
    "warm_up_seconds": warm_up,
    "rounds": [
      s / (part * batch_size) for s, part in zip(seconds, parts, strict=True)
    ],
    "clips_per_second": number / wall,
    "clips_per_core_second": number / cpu,
    "frames_per_second": number * cfg.train_size[0] / wall,
    "seconds_per_clip": wall / number,
    "num_workers": cfg.num_workers,
    "batch_size": batch_size,
    "broken": dict(batches.ledger.broken),
  }


def make_videos(
  folder: Path, height: int, *, fps: int = 24, seconds: int = 10
) -> dict[str, Any]:
  """Writes captioned H.264 videos of a drifting landscape with some grain.

  Args:
    folder: to write to.
    height: in pixels; they are 16 : 9, of even sizes.
    fps: frames a second.
    seconds: of each video.

  Returns:
    What they are, for a report.
  """
  size = height // 2 * 2, height * 16 // 9 // 2 * 2
  for number in range(_VIDEOS):
    path = folder / f"v{number}.mp4"
    frames = _frames(number, size, fps * seconds)
    # As cameras and sites encode: a keyframe every two seconds.
    media.encode_mp4(path, frames, size, fps, crf="23", g=str(2 * fps))
    path.with_suffix(".txt").write_text(f"landscape {number}\n")
  return {
    "codec": "h264",
    "size": list(size),
    "fps": fps,
    "seconds": seconds,
    "videos": _VIDEOS,
  }


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
