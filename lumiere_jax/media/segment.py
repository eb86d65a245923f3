# SPDX-License-Identifier: Apache-2.0
"""A part of a video, read in bounded memory; and why some files have none.

No more is held than the clip's own frames and the frame being decoded.
"""

import contextlib
import errno
import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from lumiere_jax.errors import UserError
from lumiere_jax.media.pixels import Clip, import_av
from lumiere_jax.media.reel import ROUNDING, preparer, resampled, timed_frames
from lumiere_jax.media.still import read_image

# Why a file is of no use, as `Unusable.reason` says it.
REASONS = (
  "missing",
  "empty",
  "unreadable",
  "no video",
  "too short",
  "damaged",
)
# Some containers seek to a keyframe behind what was asked for; then from so
# many seconds before, and then from the beginning.
_BEFORE = (0.0, 10.0, float("inf"))
# Of a second: less than this may be missing at the end of what a file says it
# has; audio and rounding make such a difference.
SLACK = 0.2

# Of what is written anew while reading: the file is not to blame.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

File = str | os.PathLike[str] | bytes


class Unusable(UserError):
  """A file of which no clip can be made.

  Attributes:
    reason: one of REASONS, or of who reads more than pixels.
    detail: what was found.
  """

  def __init__(self, reason: str, detail: str):
    super().__init__(f"{reason}: {detail}")
    self.reason, self.detail = reason, detail


@dataclass(frozen=True, kw_only=True)
class Wish:
  """What is wanted of a video.

  Attributes:
    num_frames: frames of the clip.
    fps: frames a second of the clip.
    size: height and width that a frame is brought to.
    fit: how, one of FITS.
    centering: for fit "crop": shares of what is over that are cut off on the
      left and at the top.
    box: (top, left, height, width) of the part of the frame of `size` that is
      kept; None is all of it.
    start: where the clip begins: 0 with the file, 1 so that both end together.
    min_seconds: how long the file must last at least, the last frame held
      where the clip is longer; 0 is until the clip's last frame.
    max_seek_seconds: most that is decoded before the clip begins; where
      keyframes lie farther apart, it begins earlier.
  """

  num_frames: int
  fps: float | int
  size: tuple[int, int]
  fit: str = "crop"
  centering: tuple[float, float] = (0.5, 0.5)
  box: tuple[int, int, int, int] | None = None
  start: float = 0.0
  min_seconds: float = 0.0
  max_seek_seconds: float = 20.0

  @property
  def part(self) -> tuple[slice, slice]:
    """Of a frame that was fitted."""
    top, left, height, width = self.box or (0, 0, *self.size)
    return slice(top, top + height), slice(left, left + width)

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """Of the clip."""
    height, width = self.box[2:] if self.box else self.size
    return self.num_frames, height, width, 3


class Facts(NamedTuple):
  """What a container says of its video.

  Attributes:
    seconds: from the first frame to the end of the last.
    fps: frames a second, on average.
    width: in pixels, as stored.
    height: likewise.
    codec: its name.
  """

  seconds: float
  fps: float
  width: int
  height: int
  codec: str


def read_segment(file: File, wish: Wish) -> Clip:
  """Reads one clip of a video of any container and codec, upright.

  Found by the nearest keyframe before its start and resampled by timestamps.

  Args:
    file: path, or all bytes of the file.
    wish: which part, at which rate and size.

  Returns:
    uint8 of `wish.shape`.

  Raises:
    Unusable: there is no such clip in the file.
  """
  with opened(file) as (container, stream):
    length = _length(container, stream)
    last = (wish.num_frames - 1) / wish.fps
    least = wish.min_seconds or last + 2 * ROUNDING
    if length < least - ROUNDING:
      raise Unusable("too short", f"{length:.2f} s, needed {least:.2f} s")
    start = wish.start * max(0.0, length - wish.num_frames / wish.fps)
    frames, start = _frames_from(container, stream, start, wish)
    return _collect(frames, start, min(length, start + last), wish)


def read_still(file: File, wish: Wish) -> np.ndarray:
  """An image as uint8 (h, w, 3), fitted and cut as the frames of a clip.

  Raises:
    Unusable: there is no image in the file.
  """
  _check(file)
  try:
    picture = read_image(file, wish.size, wish.fit, centering=wish.centering)
  except UserError as error:
    raise Unusable("unreadable", str(error.__cause__ or error)) from error
  return picture.pixels[wish.part]


def probe(file: File) -> Facts:
  """Reads all packets of a video and decodes its first frame.

  Raises:
    Unusable: there is no video, or less of it than the file says.
  """
  with opened(file) as (container, stream):
    claimed = float((stream.duration or 0) * stream.time_base)
    head = next(container.decode(stream), None)
    if head is None:
      raise Unusable("damaged", "it has no frame that can be decoded")
    _rewind(container, stream)
    end, count = _last_end(container, stream), stream.frames
    if end < claimed - SLACK - 2 / rate_of(stream):
      raise Unusable("damaged", f"{end:.2f} s of the {claimed:.2f} s it claims")
    context = stream.codec_context
    return Facts(
      end, rate_of(stream, count, end), head.width, head.height, context.name
    )


@contextlib.contextmanager
def opened(file: File) -> Iterator[tuple[Any, Any]]:
  """A container and its video, whose troubles have names."""
  av = import_av()
  _check(file)
  stage = "unreadable"
  try:
    target = io.BytesIO(file) if isinstance(file, bytes) else os.fspath(file)
    with av.open(target) as container:
      if not container.streams:
        raise Unusable("unreadable", "its index is damaged")
      if not container.streams.video:
        raise Unusable("no video", "it has no video stream")
      stream = container.streams.video[0]
      if stream.codec_context is None:
        raise Unusable("unreadable", "its codec is not known")
      stage = "damaged"
      # Workers and reading threads are what keeps the other cores busy.
      stream.codec_context.thread_count = 1
      yield container, stream
  except UserError:  # It is a ValueError too.
    raise
  except (
    *(av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError),
    *(EOFError, Image.DecompressionBombError),
  ) as error:
    if getattr(error, "errno", None) in _NO_SPACE:
      raise UserError(f"cannot write what is made of it: {error}") from error
    detail = getattr(error, "strerror", None) or error
    raise Unusable(stage, str(detail)) from error


def _check(file: File) -> None:
  if isinstance(file, bytes):
    size = len(file)
  elif not Path(file).is_file():
    raise Unusable("missing", "no such file")
  else:
    size = Path(file).stat().st_size
  if not size:
    raise Unusable("empty", "it has no bytes")


def rate_of(stream: Any, count: int = 0, seconds: float = 0.0) -> float:
  """Frames a second, on average."""
  if count and seconds:
    return count / seconds
  return float(stream.average_rate or stream.guessed_rate or 25)


def origin_of(stream: Any) -> float:
  """Timestamp of the first frame, in seconds."""
  return float((stream.start_time or 0) * stream.time_base)


def _length(container: Any, stream: Any) -> float:
  """Seconds of the video: what its stream says, or more that is there."""
  length = float((stream.duration or 0) * stream.time_base)
  if container.duration:
    container.seek(container.duration)
    length = max(length, _last_end(container, stream))
  if not length:
    _rewind(container, stream)
    length = _last_end(container, stream)
  return length


def _rewind(container: Any, stream: Any) -> None:
  """To the first packet; by its own timestamp, some miss the first keyframe."""
  container.seek(int(max(0.0, origin_of(stream) - 10) * 10**6))


def _last_end(container: Any, stream: Any) -> float:
  """When the last frame of what is left of the container ends."""
  end, origin, count = 0.0, origin_of(stream), 0
  for packet in container.demux(stream):
    if not packet.size:
      continue
    count += 1
    if packet.pts is None:  # Raw streams have no timestamps.
      end = max(end, count / rate_of(stream))
      continue
    length = float((packet.duration or 0) * stream.time_base)
    time = float(packet.pts * stream.time_base) - origin
    end = max(end, time + (length or 1 / rate_of(stream)))
  return end


def _frames_from(
  container: Any, stream: Any, start: float, wish: Wish
) -> tuple[Iterator[tuple[float, float, Any]], float]:
  """Frames from a keyframe on, and the start that it leads to."""
  origin = origin_of(stream)
  for before in _BEFORE:
    target = max(0.0, start - before)
    stamp = Fraction(target + origin).limit_denominator(10**6)
    if target:
      container.seek(int(stamp / stream.time_base), stream=stream)
    else:
      _rewind(container, stream)
    frames = timed_frames(container, stream, rate_of(stream), origin)
    head = next(frames, None)
    if head is not None and (head[0] <= start + ROUNDING or not target):
      break
  if head is None:
    raise Unusable("damaged", "it has no frame that can be decoded")
  start = min(start, max(0.0, head[0]) + wish.max_seek_seconds)
  return itertools.chain([head], frames), start


def _collect(
  frames: Iterator[tuple[float, float, Any]],
  start: float,
  until: float,
  wish: Wish,
) -> Clip:
  """The clip; all that is wanted until `until` (seconds) must be there."""
  clip = np.empty(wish.shape, np.uint8)
  prepare = preparer(wish.size, wish.fit, "white", wish.centering, quick=True)
  count, shown, last = 0, None, (start, start, None)

  def noted():
    nonlocal last
    for entry in frames:
      last = entry
      yield entry

  for _, _, frame in resampled(noted(), wish.fps, start):
    if frame is shown:
      clip[count] = clip[count - 1]
    else:
      if frame.is_corrupt:
        raise Unusable("damaged", "a frame of it is corrupt")
      clip[count] = prepare(frame)[0][wish.part]
    count, shown = count + 1, frame
    if count == wish.num_frames:
      return clip
  _, end, frame = last
  if not count or end < until - SLACK:
    raise Unusable("damaged", f"only {end - start:.2f} s of a clip are whole")
  clip[count:] = prepare(frame)[0][wish.part]
  return clip
