# SPDX-License-Identifier: Apache-2.0
"""Reads images and videos of any kind to the size and frame rate wanted."""

import contextlib
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, ImageSequence

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
    missing: seconds that the file says it has and that could not be read.
  """

  clip: Clip
  fps: float | int
  source: Size
  covered: int
  trimmed: bool
  missing: float


def read_image(
  path: str | os.PathLike[str],
  size: tuple[int, int] | None = None,
  fit: str = "crop",
  behind: str = "white",
) -> Picture:
  """Reads an image of any format that Pillow reads, upright, as RGB.

  The first frame of an animation, of at most 2^26 pixels.

  Args:
    path: the file.
    size: height and width to bring it to; None keeps its own.
    fit: one of FITS, as in `fit_image`.
    behind: colour that what is transparent becomes.

  Raises:
    UserError: no such file, no image in it, too large a one, or one whose
      numbers have no known range (32 bits).
  """
  _check_file(path, "image")
  try:
    with _open_image(path) as file:
      image = _rgb(ImageOps.exif_transpose(file), behind)
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
  _check_file(path, "video")
  is_animation = frames_of_image(path) > 1
  source = _animation if is_animation else _container
  try:
    with source(path) as reel:
      frames = iter(reel)
      if fps is not None:
        frames = _resampled(frames, fps)
      prepare = _preparer(size, fit, behind)
      return _collect(path, reel, frames, fps or reel.fps, num_frames, prepare)
  except UserError:  # It is a ValueError too.
    raise
  except (
    *(av.error.FFmpegError, Image.DecompressionBombError, SyntaxError, OSError),
    *(ValueError, OverflowError, MemoryError, EOFError),
  ) as e:
    reason = getattr(e, "strerror", None) or e
    raise UserError(f"cannot read {path} as a video: {reason}") from e


def frames_of_image(path: str | os.PathLike[str]) -> int:
  """How many frames an image file has: 0 if Pillow knows of no image in it."""
  try:
    with _open_image(path) as file:
      return getattr(file, "n_frames", 1)
  except Exception:  # What damaged headers lead to is told by who reads it.
    return 0


def fit_image(
  image: Image.Image, size: tuple[int, int], fit: str
) -> Image.Image:
  """Brings an image to a size.

  Args:
    image: of any size.
    size: height and width it gets.
    fit: "crop" fills the size and cuts off what is over on both sides, "pad"
      shows all and adds black bars, "stretch" changes the proportions.

  Raises:
    UserError: unknown `fit`.
  """
  height, width = size
  target = (width, height)
  if image.size == target:
    return image
  if fit == "crop":
    return ImageOps.fit(image, target, Image.Resampling.BICUBIC)
  if fit == "pad":
    return ImageOps.pad(image, target, Image.Resampling.BICUBIC, color=0)
  if fit == "stretch":
    return image.resize(target, Image.Resampling.BICUBIC)
  raise UserError(f"unknown fit {fit!r}; choices: {', '.join(FITS)}")


def _check_file(path: str | os.PathLike[str], kind: str) -> None:
  if os.fspath(path) and Path(path).is_dir():
    raise UserError(f"{kind} {os.fspath(path)!r} is a folder, not a file")
  if not os.path.isfile(path):
    raise UserError(f"no such {kind} file: {os.fspath(path)!r}")


@contextlib.contextmanager
def _open_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
  """Opens an image file, whose pixels are not decoded yet, in silence."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Of odd metadata, and of large images.
    try:
      file = Image.open(path)
    except Image.DecompressionBombError:
      raise ValueError(f"it has more than {_MAX_PIXELS:,} pixels") from None
    with file:
      _check_size(file.width, file.height)
      yield file


def _rgb(image: Image.Image, behind: str) -> Image.Image:
  """Eight bits of red, green and blue, on a colour where it is transparent."""
  if image.mode in ("I", "F"):
    raise ValueError("its numbers have 32 bits and no known range")
  if image.mode.startswith("I;16"):
    grey = np.asarray(image, np.float64) / 257
    image = Image.fromarray(np.clip(np.round(grey), 0, 255).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    flat = Image.new("RGBA", image.size, behind)
    image = Image.alpha_composite(flat, image)
  return image.convert("RGB")


def _check_size(width: int, height: int) -> None:
  if not 0 < width * height <= _MAX_PIXELS:
    raise ValueError(
      f"{width} x {height} pixels, it must have 1 to {_MAX_PIXELS:,}"
    )


def _preparer(
  size: tuple[int, int] | None, fit: str, behind: str
) -> Callable[[Any], tuple[np.ndarray, Size]]:
  """Turns a decoded frame into pixels of the size, and its own size."""

  def prepare(frame):
    _check_size(frame.width, frame.height)
    if isinstance(frame, Image.Image):
      pixels = np.asarray(_rgb(frame, behind))
    else:
      pixels = frame.to_ndarray(format="rgb24")
      turns = round(frame.rotation / 90) % 4
      pixels = np.ascontiguousarray(np.rot90(pixels, turns))
    source = Size(*pixels.shape[:2])
    if size is not None:
      pixels = np.asarray(fit_image(Image.fromarray(pixels), size, fit))
    return pixels, source

  return prepare


@dataclass
class _Reel:
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
def _container(path: str | os.PathLike[str]) -> Iterator[_Reel]:
  with import_av().open(os.fspath(path)) as container:
    if not container.streams.video:
      raise UserError(f"{path} holds no video")
    stream = container.streams.video[0]
    fps = float(stream.average_rate or stream.guessed_rate or 0) or 25.0
    # Of all streams: one of sound alone may be a little longer.
    seconds = (container.duration or 0) / 1e6
    yield _Reel(_timed_frames(container, stream, fps), fps, seconds)


@contextlib.contextmanager
def _animation(path: str | os.PathLike[str]) -> Iterator[_Reel]:
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

  with _open_image(path) as file:
    yield _Reel(frames(file), 1 / seconds(file), 0.0)


def _timed_frames(
  container: Any, stream: Any, fps: float | int
) -> Iterator[tuple[float, float, Any]]:
  """Yields (start, end, frame) in seconds from the first frame on."""
  first, last_end = None, 0.0
  for frame in _readable(container.decode(stream)):
    time = last_end if frame.time is None else frame.time - (first or 0.0)
    if first is None:
      first = frame.time or 0.0
      time = 0.0
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
  reel: _Reel,
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
