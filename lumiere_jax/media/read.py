# SPDX-License-Identifier: Apache-2.0
"""Reads videos of any kind to the size and frame rate wanted."""

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lumiere_jax.errors import UserError
from lumiere_jax.media.pixels import Clip, import_av
from lumiere_jax.media.reel import (
  Reel,
  open_animation,
  open_container,
  preparer,
  resampled,
)
from lumiere_jax.media.still import Size, check_file, frames_of_image


class Footage(NamedTuple):
  """A video that was read.

  Attributes:
    clip: uint8 (t, h, w, 3).
    fps: frames a second of the clip.
    source: size of a frame in the file, upright.
    covered: frames of the clip that the file has; the last is held beyond.
    trimmed: whether the file goes on after the clip.
    missing: seconds that the file says it has and that could not be read.
  """

  clip: Clip
  fps: float | int
  source: Size
  covered: int
  trimmed: bool
  missing: float


def read_video(
  path: str | os.PathLike[str],
  *,
  fps: float | int | None = None,
  num_frames: int | None = None,
  size: tuple[int, int] | None = None,
  fit: str = "crop",
  behind: str = "white",
) -> Footage:
  """Reads a video of any container and codec that PyAV reads, upright.

  Animated images that only Pillow reads (WebP) likewise.

  With `fps` it is resampled by its timestamps: a frame shows what the file
  shows at its time, so that a variable rate is right. No more of the file is
  decoded than is needed.

  Args:
    path: the file.
    fps: frames a second to bring it to; None keeps each frame of the file.
    num_frames: frames of the clip: a longer file is trimmed, of a shorter one
      the last frame is held. None is all that the file has.
    size: height and width of a frame to bring it to; None keeps the file's.
    fit: one of FITS, as in `fit_image`.
    behind: colour that what is transparent becomes, of animated images.

  Raises:
    UserError: no such file, no video in it, or it is damaged.
  """
  av = import_av()
  check_file(path, "video")
  is_animation = frames_of_image(path) > 1
  source = open_animation if is_animation else open_container
  try:
    with source(path) as reel:
      frames = iter(reel)
      if fps is not None:
        frames = resampled(frames, fps)
      prepare = preparer(size, fit, behind)
      return _collect(path, reel, frames, fps or reel.fps, num_frames, prepare)
  except UserError:  # It is a ValueError too.
    raise
  except (
    *(av.error.FFmpegError, Image.DecompressionBombError, SyntaxError, OSError),
    *(ValueError, OverflowError, MemoryError, EOFError),
  ) as e:
    reason = getattr(e, "strerror", None) or e
    raise UserError(f"cannot read {path} as a video: {reason}") from e


def _collect(
  path: str | os.PathLike[str],
  reel: Reel,
  frames: Iterator[tuple[float, float, Any]],
  fps: float | int,
  num_frames: int | None,
  prepare: Callable[[Any], tuple[np.ndarray, Size]],
) -> Footage:
  clip: list[np.ndarray] = []
  source, last, trimmed = Size(0, 0), None, False
  for _, _, frame in frames:
    if len(clip) == num_frames:
      trimmed = True
      break
    if frame is last:  # It is shown again.
      clip.append(clip[-1])
      continue
    pixels, source = prepare(frame)
    if clip and pixels.shape != clip[0].shape:
      raise UserError(f"{path}: its frames change their size")
    clip.append(pixels)
    last = frame
  if not clip:
    raise UserError(f"{path} holds no frames")
  covered = len(clip)
  held = (num_frames or 0) - covered
  if held > 0:
    # The file's last, which may end before its turn in the clip comes.
    clip += [prepare(reel.last)[0]] * held
  missing = 0.0 if trimmed else max(0.0, reel.seconds - reel.end)
  return Footage(np.stack(clip), fps, source, covered, trimmed, missing)
