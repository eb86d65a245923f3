# SPDX-License-Identifier: Apache-2.0
"""Writes clips and images. Nothing is overwritten."""

import os
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from lumiere_jax.errors import UserError
from lumiere_jax.media.files import new_file
from lumiere_jax.media.pixels import Clip, check_clip, import_av

# H.273 code points: BT.709 primaries, transfer and matrix; limited range.
_BT709 = 1
_LIMITED_RANGE = 1
_FULL_RANGE = 2
_CRF = 12  # visually lossless; 80 frames of 64x64 take some 100 kB


def write_mp4(
  path: str | os.PathLike[str], clip: Clip, fps: float | int, scale: int = 1
) -> None:
  """Writes H.264 (yuv420p, BT.709) that lasts exactly num_frames / fps.

  Args:
    path: the file to make.
    clip: uint8 (t, h, w, 3).
    fps: frames a second.
    scale: every pixel becomes scale x scale; height and width must then be
      even, since colour is stored at half the resolution.

  Raises:
    UserError: the file exists, an odd size, or no PyAV.
  """
  if scale < 1:
    raise UserError(f"scale={scale} must be 1 or more")
  clip = check_clip(clip).repeat(scale, axis=1).repeat(scale, axis=2)
  _, height, width, _ = clip.shape
  if height % 2 or width % 2:
    raise UserError(
      f"H.264 needs even sizes, got {height}x{width} at scale={scale}"
    )
  with new_file(path) as temporary:
    encode_mp4(temporary, clip, (height, width), fps, preset="slow")


def encode_mp4(
  path: str | os.PathLike[str],
  frames: Iterable[UInt8[np.ndarray, "h w 3"]],
  size: tuple[int, int],
  fps: float | int,
  **options: str,
) -> None:
  """Writes frames, one after the other, as `write_mp4` does; over any file.

  Args:
    path: the file.
    frames: of the size.
    size: height and width, both even.
    fps: frames a second.
    **options: of libx264, other than for a clip that is looked at.
  """
  rate, (height, width) = _rate(fps), size
  with import_av().open(
    path, "w", format="mp4", options={"movflags": "+faststart"}
  ) as container:
    # One thread: the same bytes whatever the number of cores.
    options = {"crf": str(_CRF), "threads": "1"} | options
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.time_base = 1 / rate
    context = stream.codec_context
    context.time_base = 1 / rate
    context.colorspace = context.color_primaries = _BT709
    context.color_trc, context.color_range = _BT709, _LIMITED_RANGE
    video_frame = import_av().VideoFrame
    for i, image in enumerate(frames):
      frame = _to_bt709(video_frame.from_ndarray(image, format="rgb24"))
      frame.pts, frame.duration, frame.time_base = i, 1, 1 / rate
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _to_bt709(frame: Any) -> Any:
  """RGB to limited-range YUV with the matrix the file is tagged with."""
  frame = frame.reformat(
    format="yuv420p",
    src_color_range=_FULL_RANGE,
    dst_color_range=_LIMITED_RANGE,
    dst_colorspace=_BT709,
  )
  frame.colorspace, frame.color_range = _BT709, _LIMITED_RANGE
  return frame


def write_webp(
  path: str | os.PathLike[str], clip: Clip, fps: float | int
) -> None:
  """Writes a lossless, endlessly looping animation of num_frames / fps.

  WebP counts whole milliseconds, so at 16 fps frames last 62 or 63 ms.

  Args:
    path: the file to make.
    clip: uint8 (t, h, w, 3).
    fps: frames a second.

  Raises:
    UserError: the file exists.
  """
  images = [Image.fromarray(frame) for frame in check_clip(clip)]
  ends = [round(i * 1000 / _rate(fps)) for i in range(len(images) + 1)]
  with new_file(path) as temporary:
    images[0].save(
      temporary,
      format="WEBP",
      save_all=True,
      append_images=images[1:],
      duration=np.diff(ends).tolist(),
      loop=0,
      lossless=True,
      quality=50,
    )


def write_png(
  path: str | os.PathLike[str], image: UInt8[np.ndarray, "h w 3"]
) -> None:
  """Writes one uint8 (h, w, 3) image. Raises UserError if the file exists."""
  with new_file(path) as temporary:
    Image.fromarray(image).save(temporary, format="PNG")


def save_npy(path: str | os.PathLike[str], array: np.ndarray) -> None:
  """Writes an array as it is. Raises UserError if the file exists."""
  with new_file(path) as temporary, open(temporary, "wb") as f:
    np.save(f, array, allow_pickle=False)


def _rate(fps: float | int) -> Fraction:
  if fps <= 0:
    raise UserError(f"fps={fps} must be > 0")
  return Fraction(fps).limit_denominator(1001)
