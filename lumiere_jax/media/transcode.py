# SPDX-License-Identifier: Apache-2.0
"""Encodes a whole video anew, smaller, frame by frame."""

import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from lumiere_jax.media.reel import preparer, resampled, timed_frames
from lumiere_jax.media.segment import (
  SLACK,
  Facts,
  File,
  Unusable,
  opened,
  origin_of,
  rate_of,
)
from lumiere_jax.media.write import encode_mp4

# Seconds; where damage has made times of years of it, no end would be reached.
MOST_HELD = 300.0


def transcode(
  file: File,
  out: str | os.PathLike[str],
  *,
  short_px: int = 0,
  fps: float | int = 0,
  crf: int = 18,
) -> Facts:
  """Writes a video upright as H.264 with a keyframe each second.

  No more than a few frames are held. Sizes become even, nothing is enlarged.

  Args:
    file: path, or all bytes of the file.
    out: the MP4 file to write.
    short_px: length of the shorter side; 0 keeps it.
    fps: frames a second, resampled by timestamps; 0 keeps the average.
    crf: constant rate factor of libx264; a larger one makes smaller files.

  Raises:
    Unusable: there is no video, or less of it than the file says.
  """
  with opened(file) as (container, stream):
    own = rate_of(stream)
    rate = fps or own
    claimed = float((stream.duration or 0) * stream.time_base)
    decoded = timed_frames(container, stream, own, origin_of(stream))
    first = next(decoded, None)
    if first is None:
      raise Unusable("damaged", "it has no frame that can be decoded")
    _, source = preparer(None, "crop", "white")(first[2])
    size = _target(source, short_px)
    count, end = 0, 0.0

    def timed() -> Iterator[tuple]:
      nonlocal end
      entry, shown = first, first[0]
      while entry is not None:
        if entry[2].is_corrupt:
          raise Unusable("damaged", "a frame of it is corrupt")
        held = max(entry[0] - shown, entry[1] - entry[0])
        if held > MOST_HELD:
          raise Unusable("damaged", f"a frame of it lasts {held:,.0f} s")
        end, shown = max(end, entry[1]), entry[0]
        yield entry
        entry = next(decoded, None)

    def images() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
      nonlocal count
      prepare, last, pixels = preparer(size, "stretch", "white"), None, None
      for _, _, frame in resampled(timed(), rate):
        if frame is not last:
          pixels, last = prepare(frame)[0], frame
        count += 1
        yield pixels

    options = {"crf": str(crf), "g": str(max(1, round(rate)))}
    encode_mp4(out, images(), size, rate, **options)
    if end < claimed - SLACK - 2 / own:
      raise Unusable("damaged", f"{end:.2f} s of the {claimed:.2f} s it claims")
    return Facts(count / rate, float(rate), size[1], size[0], "h264")


def _target(source: tuple[int, int], short_px: int) -> tuple[int, int]:
  """Even height and width, of the same proportions as far as that goes."""
  scale = min(1.0, short_px / min(source)) if short_px else 1.0
  return tuple(max(2, 2 * round(side * scale / 2)) for side in source)
