# SPDX-License-Identifier: Apache-2.0
"""Videos as frames in time, one decoded after the other."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageSequence

from lumiere_jax.errors import UserError
from lumiere_jax.media.pixels import import_av
from lumiere_jax.media.still import (
  Size,
  check_size,
  fit_image,
  flatten,
  open_image,
)

# Of a second: timestamps are rounded to the container's clock.
ROUNDING = 1e-3


@dataclass
class Reel:
  """A video that is open.

  Attributes:
    frames: (start, end, frame) in seconds from the first frame on.
    fps: frames a second, on average.
    seconds: how long it says it is; 0 if it does not.
    last: the last frame that was taken.
    end: when that ends, in seconds.
  """

  frames: Iterator[tuple[float, float, Any]]
  fps: float
  seconds: float
  last: Any = None
  end: float = 0.0

  def __iter__(self) -> Iterator[tuple[float, float, Any]]:
    for start, end, frame in self.frames:
      self.last, self.end = frame, max(self.end, end)
      yield start, end, frame


@contextlib.contextmanager
def open_container(path: str | os.PathLike[str]) -> Iterator[Reel]:
  """Of a file that FFmpeg reads."""
  with import_av().open(os.fspath(path)) as container:
    if not container.streams.video:
      raise UserError(f"{path} holds no video")
    stream = container.streams.video[0]
    fps = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
    # Of all streams: one of sound alone may be a little longer.
    seconds = (container.duration or 0) / 1e6
    yield Reel(timed_frames(container, stream, fps), fps, seconds)


@contextlib.contextmanager
def open_animation(path: str | os.PathLike[str]) -> Iterator[Reel]:
  """Of an animated image; a frame without duration lasts 0.1 s."""

  def seconds(frame: Image.Image) -> float:
    frame.load()  # Before, WebP does not tell.
    return (frame.info.get("duration") or 100) / 1e3

  def frames(file: Image.Image) -> Iterator[tuple[float, float, Any]]:
    time = 0.0
    for frame in ImageSequence.Iterator(file):
      end = time + seconds(frame)
      yield time, end, frame.copy()
      time = end

  with open_image(path) as file:
    yield Reel(frames(file), 1 / seconds(file), 0.0)


def timed_frames(
  container: Any, stream: Any, fps: float | int, origin: float | None = None
) -> Iterator[tuple[float, float, Any]]:
  """Yields (start, end, frame) of the frames from where the container stands.

  Args:
    container: it is.
    stream: of the container, the one with the frames.
    fps: how long a frame lasts that does not say so.
    origin: timestamp, in seconds, that times count from; None is the first
      frame's.
  """
  last_end = 0.0
  for frame in _readable(container.decode(stream)):
    if origin is None:
      origin = frame.time or 0.0
    time = last_end if frame.time is None else frame.time - origin
    length = float((frame.duration or 0) * (frame.time_base or 0)) or 1 / fps
    last_end = time + length
    yield time, last_end, frame


def _readable(frames: Iterator[Any]) -> Iterator[Any]:
  """The frames before the first that is damaged; the first of all must not."""
  damage = import_av().error.InvalidDataError
  yield from itertools.islice(frames, 1)
  with contextlib.suppress(damage):
    # PyAV's generator, once at its end, does not bear `yield from`.
    for frame in frames:  # noqa: UP028
      yield frame


def resampled(
  frames: Iterator[tuple[float, float, Any]],
  fps: float | int,
  start: float = 0.0,
) -> Iterator[tuple[float, float, Any]]:
  """Yields what is shown every 1 / fps from `start` to the last one's end.

  What was shown before is dropped; the first frame is also shown where it
  comes late.
  """
  count, shown, end = 0, None, 0.0
  for time, end_of_this, frame in frames:
    while shown is not None and start + count / fps < time - ROUNDING:
      yield start + count / fps, start + (count + 1) / fps, shown
      count += 1
    shown, end = frame, max(end, end_of_this)
  while shown is not None and (
    count == 0 or start + count / fps < end - ROUNDING
  ):
    yield start + count / fps, start + (count + 1) / fps, shown
    count += 1


def preparer(
  size: tuple[int, int] | None,
  fit: str,
  behind: str,
  centering: tuple[float, float] = (0.5, 0.5),
  *,
  quick: bool = False,
) -> Callable[[Any], tuple[np.ndarray, Size]]:
  """Turns a decoded frame into pixels of the size, and its own size.

  Args:
    size: height and width; None keeps the frame's.
    fit: one of FITS.
    behind: colour that what is transparent becomes.
    centering: as in `fit_image`.
    quick: much larger frames are averaged over blocks first, to no less than
      twice the size; their own size is then that one.
  """

  def prepare(frame):
    check_size(frame.width, frame.height)
    if isinstance(frame, Image.Image):
      pixels = np.asarray(flatten(frame, behind))
    else:
      turns = round(frame.rotation / 90) % 4
      if quick and size is not None:
        frame = _shrunk(frame, 2 * max(size))
      pixels = frame.to_ndarray(format="rgb24")
      pixels = np.ascontiguousarray(np.rot90(pixels, turns))
    source = Size(*pixels.shape[:2])
    if size is not None:
      image = fit_image(Image.fromarray(pixels), size, fit, centering)
      pixels = np.asarray(image)
    return pixels, source

  return prepare


def _shrunk(frame: Any, least: int) -> Any:
  """Averages over blocks, of whole pixels nearly, down to sides of `least`."""
  block = min(frame.width, frame.height) // least
  if block < 2:
    return frame
  return frame.reformat(
    width=round(frame.width / block),
    height=round(frame.height / block),
    format="yuv444p",  # Not RGB: that would make 253 of white.
    interpolation="AREA",
  )
