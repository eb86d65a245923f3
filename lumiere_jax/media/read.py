# SPDX-License-Identifier: Apache-2.0
"""Reads images and videos of any kind to the size and frame rate wanted."""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from lumiere_jax.errors import UserError
from lumiere_jax.media.pixels import Clip, import_av

FITS = ("crop", "pad", "stretch")
# Of one frame; beyond it a damaged header asks for all memory.
_MAX_PIXELS = 2**26
# Of a second: timestamps are rounded to the container's clock.
_ROUNDING = 1e-3


class Size(NamedTuple):
  """Height and width in pixels."""

  h: int
  w: int


class Picture(NamedTuple):
  """An image that was read.

  Attributes:
    pixels: uint8 (h, w, 3).
    source: its size in the file, upright.
  """

  pixels: UInt8[np.ndarray, "h w 3"]
  source: Size


class Footage(NamedTuple):
  """A video that was read.

  Attributes:
    clip: uint8 (t, h, w, 3).
    fps: frames a second of the clip.
    source: size of a frame in the file, upright.
    covered: frames of the clip that the file has; the last is held beyond.
    trimmed: whether the file goes on after the clip.
  """

  clip: Clip
  fps: float | int
  source: Size
  covered: int
  trimmed: bool


def read_image(
  path: str | os.PathLike[str], size: Size | None = None, fit: str = "crop"
) -> Picture:
  """Reads an image of any format that Pillow reads, upright, as RGB.

  The first frame of an animation; what is transparent becomes white.

  Args:
    path: the file.
    size: to bring it to; None keeps its own.
    fit: one of FITS, as in `fit_image`.

  Raises:
    UserError: no such file, or no image in it.
  """
  if not Path(path).is_file():
    raise UserError(f"no such image file: {path}")
  try:
    with warnings.catch_warnings(), Image.open(path) as file:
      warnings.simplefilter("ignore")  # Of odd metadata.
      _check_size(file.width, file.height)
      image = _rgb(ImageOps.exif_transpose(file))
  except Exception as error:  # Decoders raise whatever a damaged file leads to.
    raise UserError(f"cannot read {path} as an image: {error}") from error
  source = Size(image.height, image.width)
  if size is not None:
    image = fit_image(image, size, fit)
  return Picture(np.asarray(image), source)


def read_video(
  path: str | os.PathLike[str],
  *,
  fps: float | int | None = None,
  num_frames: int | None = None,
  size: Size | None = None,
  fit: str = "crop",
) -> Footage:
  """Reads a video of any container and codec that PyAV reads, upright.

  With `fps` it is resampled by its timestamps: a frame shows what the file
  shows at its time, so that a variable rate is right. No more of the file is
  decoded than is needed.

  Args:
    path: the file.
    fps: frames a second to bring it to; None keeps each frame of the file.
    num_frames: frames of the clip: a longer file is trimmed, of a shorter one
      the last frame is held. None is all that the file has.
    size: of a frame to bring it to; None keeps the file's.
    fit: one of FITS, as in `fit_image`.

  Raises:
    UserError: no such file, no video in it, or it is damaged.
  """
  av = import_av()
  if not Path(path).is_file():
    raise UserError(f"no such video file: {path}")
  try:
    with av.open(os.fspath(path)) as container:
      if not container.streams.video:
        raise UserError(f"{path} holds no video")
      stream = container.streams.video[0]
      own_fps = float(stream.average_rate or stream.guessed_rate or 0)
      frames = _timed_frames(container, stream, own_fps or 25.0)
      if fps is not None:
        frames = _resampled(frames, fps)
      rate = fps or own_fps
      return _collect(path, frames, rate, num_frames, _preparer(size, fit))
  except UserError:  # It is a ValueError too.
    raise
  except (av.error.FFmpegError, ValueError, OverflowError, MemoryError) as e:
    reason = getattr(e, "strerror", None) or e
    raise UserError(f"cannot read {path} as a video: {reason}") from e


def fit_image(image: Image.Image, size: Size, fit: str) -> Image.Image:
  """Brings an image to a size.

  Args:
    image: of any size.
    size: what it becomes.
    fit: "crop" fills the size and cuts off what is over on both sides, "pad"
      shows all and adds black bars, "stretch" changes the proportions.

  Raises:
    UserError: unknown `fit`.
  """
  target = (size.w, size.h)
  if image.size == target:
    return image
  if fit == "crop":
    return ImageOps.fit(image, target, Image.Resampling.BICUBIC)
  if fit == "pad":
    return ImageOps.pad(image, target, Image.Resampling.BICUBIC, color=0)
  if fit == "stretch":
    return image.resize(target, Image.Resampling.BICUBIC)
  raise UserError(f"unknown fit {fit!r}; choices: {', '.join(FITS)}")


def _rgb(image: Image.Image) -> Image.Image:
  """Eight bits of red, green and blue, on white where it is transparent."""
  if image.mode.startswith("I"):  # 16 bits of grey.
    grey = np.asarray(image, np.float64) / 257
    image = Image.fromarray(np.clip(np.round(grey), 0, 255).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(white, image)
  return image.convert("RGB")


def _check_size(width: int, height: int) -> None:
  if not 0 < width * height <= _MAX_PIXELS:
    raise ValueError(
      f"{width} x {height} pixels, it must have 1 to {_MAX_PIXELS:,}"
    )


def _preparer(
  size: Size | None, fit: str
) -> Callable[[Any], tuple[np.ndarray, Size]]:
  """Turns a decoded frame into pixels of the size, and its own size."""

  def prepare(frame):
    _check_size(frame.width, frame.height)
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    pixels = np.ascontiguousarray(np.rot90(pixels, turns))
    source = Size(*pixels.shape[:2])
    if size is not None:
      pixels = np.asarray(fit_image(Image.fromarray(pixels), size, fit))
    return pixels, source

  return prepare


def _timed_frames(
  container: Any, stream: Any, fps: float | int
) -> Iterator[tuple[float, float, Any]]:
  """Yields (start, end, frame) in seconds from the first frame on."""
  first, last_end = None, 0.0
  for frame in container.decode(stream):
    time = last_end if frame.time is None else frame.time - (first or 0.0)
    if first is None:
      first = frame.time or 0.0
      time = 0.0
    length = float((frame.duration or 0) * (frame.time_base or 0)) or 1 / fps
    last_end = time + length
    yield time, last_end, frame


def _resampled(
  frames: Iterator[tuple[float, float, Any]], fps: float | int
) -> Iterator[tuple[float, float, Any]]:
  """Yields what is shown at 0, 1 / fps, 2 / fps, ... until the last's end."""
  count, shown, end = 0, None, 0.0
  for time, end_of_this, frame in frames:
    while shown is not None and count / fps < time - _ROUNDING:
      yield count / fps, (count + 1) / fps, shown
      count += 1
    shown, end = frame, max(end, end_of_this)
  while shown is not None and (count == 0 or count / fps < end - _ROUNDING):
    yield count / fps, (count + 1) / fps, shown
    count += 1


def _collect(
  path: str | os.PathLike[str],
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
  clip += [clip[-1]] * ((num_frames or 0) - covered)
  return Footage(np.stack(clip), fps, source, covered, trimmed)
