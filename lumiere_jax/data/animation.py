# SPDX-License-Identifier: Apache-2.0
"""Animated images as arrays: reading, resampling in time, trimming, writing."""

from typing import Any

import numpy as np
from PIL import Image

from lumiere_jax.shapes import Int, UInt8

# One loop with straight alpha; its length has a letter of its own, since the
# clip made of it is as long as it wants.
Loop = UInt8[np.ndarray, "loop rows columns 4"]
Durations = Int[np.ndarray, " loop"]


def read_animation(file: Any) -> tuple[Loop, Durations]:
  """Reads every stored frame and how long it is shown.

  Args:
    file: path or binary file of any animation that Pillow reads.

  Returns:
    Frames with straight alpha, and their durations in milliseconds.
  """
  frames, durations = [], []
  with Image.open(file) as image:
    for index in range(getattr(image, "n_frames", 1)):
      image.seek(index)
      image.load()
      frames.append(np.asarray(image.convert("RGBA")))
      durations.append(int(image.info.get("duration", 0)))
  return np.stack(frames), np.asarray(durations)


def loop_frames(durations: Durations, fps: int) -> int:
  """The number of frames at `fps` that comes nearest to the loop's length."""
  return max(1, round(float(durations.sum()) * fps / 1000))


def resample(
  frames: Loop, durations: Durations, num_frames: int
) -> UInt8[np.ndarray, "{num_frames} rows columns 4"]:
  """Samples one loop at `num_frames` instants, evenly spread over its length.

  The frame that is shown in the middle of each interval is taken, so stored
  frames of unequal duration keep their share of time and the loop closes.
  """
  ends = np.cumsum(np.maximum(durations, 1))  # A still has no duration.
  instants = (np.arange(num_frames) + 0.5) * ends[-1] / num_frames
  return frames[np.searchsorted(ends, instants, side="right")]


def trim(
  frames: Loop, size_px: int, margin_px: int = 1
) -> UInt8[np.ndarray, "loop {size_px} {size_px} 4"]:
  """Crops a loop to what it ever shows and scales that to fill a square.

  One box serves the whole loop: the object neither jumps nor is it cut by its
  own animation. Resized with premultiplied alpha, so edges keep their colour.
  """
  rows, columns = np.where(frames[..., 3].max(0) > 8)
  top, bottom = rows.min(), rows.max() + 1
  left, right = columns.min(), columns.max() + 1
  scale = (size_px - 2 * margin_px) / max(bottom - top, right - left)
  height = max(1, round((bottom - top) * scale))
  width = max(1, round((right - left) * scale))
  result = np.zeros((len(frames), size_px, size_px, 4), np.uint8)
  y, x = (size_px - height) // 2, (size_px - width) // 2
  for index, frame in enumerate(frames):
    image = Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right]))
    small = image.resize((width, height), Image.Resampling.LANCZOS)
    result[index, y : y + height, x : x + width] = np.asarray(small)
  return result


def write_webp(
  path: Any, frames: Loop, fps: int, quality: int | None = None
) -> None:
  """Writes an animated WebP that loops for ever.

  Encoders merge equal neighbours, so read it back with `resample`.

  Args:
    path: where to.
    frames: with straight alpha.
    fps: frames a second.
    quality: 0 to 100 of lossy colors, with slightly lossy alpha; None is
      lossless.
  """
  marks = np.round(np.arange(len(frames) + 1) * 1000 / fps).astype(int)
  images = [Image.fromarray(frame) for frame in frames]
  images[0].save(
    path,
    format="WEBP",
    save_all=True,
    append_images=images[1:],
    duration=np.diff(marks).tolist(),
    loop=0,
    lossless=quality is None,
    quality=60 if quality is None else quality,
    alpha_quality=100 if quality is None else 60,
    method=2,
  )
