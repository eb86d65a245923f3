# SPDX-License-Identifier: Apache-2.0
"""Pixels at the edge of the program: the one conversion, and files of clips.

Inside, pixels are floats in [-1, 1]; here and outside, uint8 with clips as
(t, h, w, c). No writer overwrites a file or leaves half of one behind.
"""

import contextlib
import itertools
import os
import secrets
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont

from lumiere_jax.errors import UserError

# H.273 code points: BT.709 primaries, transfer and matrix; limited range.
_BT709 = 1
_LIMITED_RANGE = 1
_FULL_RANGE = 2
_CRF = 12  # visually lossless; 80 frames of 64x64 take some 100 kB

AnyArray = np.ndarray | Array
Clip = UInt8[np.ndarray, "t h w 3"]


def to_uint8(x: Float[AnyArray, "..."]) -> UInt8[np.ndarray, "..."]:
  """Rounds pixels in [-1, 1] to uint8 on the host, clipping what lies outside.

  Args:
    x: numpy or jax array of any shape; half-way values go to the even number.

  Raises:
    UserError: a value is not finite.
  """
  x = np.asarray(x).astype(np.float32)
  bad = x.size - np.count_nonzero(np.isfinite(x))
  if bad:
    raise UserError(f"{bad} of {x.size} pixels are not finite")
  return np.round((np.clip(x, -1, 1) + 1) * 127.5).astype(np.uint8)


def to_float(x: Shaped[AnyArray, "..."]) -> Float[AnyArray, "..."]:
  """Maps uint8 pixels to float32 in [-1, 1]; `to_uint8` inverts it exactly.

  Args:
    x: numpy or jax array of uint8, any shape; traced arrays too.

  Raises:
    UserError: the array is not uint8.
  """
  if x.dtype != np.uint8:
    raise UserError(f"pixels to convert must be uint8, got {x.dtype}")
  return x.astype(np.float32) / 127.5 - 1


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
  """Yields a temporary path that becomes `path` if the block succeeds.

  The file appears whole or not at all, and never replaces another one.

  Raises:
    UserError: the file exists, or its folder cannot be written to.
  """
  path = Path(path)
  check_free(path)
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.touch(exist_ok=False)
    yield temporary
    _publish(temporary, path)
  except FileExistsError as e:
    raise UserError(f"{e.filename2 or e.filename} exists already") from e
  except OSError as e:
    raise UserError(f"cannot write {path}: {e.strerror or e}") from e
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink()


def check_free(path: str | os.PathLike[str]) -> None:
  """Raises UserError if something lies at the path: nothing is overwritten."""
  if os.path.lexists(path):
    raise UserError(f"{path} exists already and is not overwritten")


def _publish(temporary: Path, path: Path) -> None:
  """Gives the finished file its name, unless another file took it."""
  try:
    os.link(temporary, path)
  except FileExistsError:
    raise
  except OSError:
    # No hard links on this file system: reserve the name, then move onto it.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.replace(temporary, path)


def free_path(out_dir: str | os.PathLike[str], stem: str) -> Path:
  """Returns `out_dir/stem`, or `-1`, `-2`, ... appended, that no file uses.

  A file uses a stem if its name is the stem, or the stem and a dot and more.
  Put suffixes on with `f"{path}.mp4"`: stems may hold dots.
  """
  out_dir = Path(out_dir)
  names = os.listdir(out_dir) if out_dir.is_dir() else []
  for i in itertools.count():
    candidate = f"{stem}-{i}" if i else stem
    if not any(n == candidate or n.startswith(candidate + ".") for n in names):
      return out_dir / candidate
  raise AssertionError("unreachable: count() never ends")


def publish_together(
  files: Sequence[Path], out_dir: str | os.PathLike[str], stem: str
) -> list[Path]:
  """Gives finished files the names `free_path(out_dir, stem)` + their suffix.

  All of them or none, and each under a name that no other program took.

  Args:
    files: with different suffixes, on the file system of `out_dir`.
    out_dir: where they are to lie.
    stem: what their names begin with.

  Raises:
    UserError: the folder cannot be written to.
  """
  while True:
    base, done = free_path(out_dir, stem), []
    try:
      for file in files:
        target = Path(f"{base}{file.suffix}")
        _publish(file, target)
        done.append(target)
      return done
    except BaseException as error:
      for target in done:
        target.unlink(missing_ok=True)
      if isinstance(error, FileExistsError):
        continue  # Another program took the name since it was found free.
      if isinstance(error, OSError):
        raise UserError(f"cannot write {base}: {error.strerror}") from error
      raise


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
  av = _import_av()
  if scale < 1:
    raise UserError(f"scale={scale} must be 1 or more")
  clip = _check_clip(clip).repeat(scale, axis=1).repeat(scale, axis=2)
  _, height, width, _ = clip.shape
  if height % 2 or width % 2:
    raise UserError(
      f"H.264 needs even sizes, got {height}x{width} at scale={scale}"
    )
  rate = _rate(fps)
  with (
    new_file(path) as temporary,
    av.open(
      temporary, "w", format="mp4", options={"movflags": "+faststart"}
    ) as container,
  ):
    # One thread: the same bytes whatever the number of cores.
    options = {"crf": str(_CRF), "preset": "slow", "threads": "1"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.time_base = 1 / rate
    context = stream.codec_context
    context.time_base = 1 / rate
    context.colorspace = context.color_primaries = _BT709
    context.color_trc, context.color_range = _BT709, _LIMITED_RANGE
    for i, image in enumerate(clip):
      frame = _to_bt709(av.VideoFrame.from_ndarray(image, format="rgb24"))
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


def read_video(path: str | os.PathLike[str]) -> tuple[Clip, float]:
  """Reads a video file: uint8 (t, h, w, 3) and frames a second.

  Raises:
    UserError: no such file, not a video, or no PyAV.
  """
  av = _import_av()
  if not Path(path).is_file():
    raise UserError(f"no such video file: {path}")
  try:
    with av.open(os.fspath(path)) as container:
      if not container.streams.video:
        raise UserError(f"{path} holds no video")
      stream = container.streams.video[0]
      fps = float(stream.average_rate or stream.guessed_rate)
      frames = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
  except av.error.FFmpegError as e:
    raise UserError(f"cannot read {path} as a video: {e.strerror}") from e
  if not frames:
    raise UserError(f"{path} holds no frames")
  return np.stack(frames), fps


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
  images = [Image.fromarray(frame) for frame in _check_clip(clip)]
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


def contact_sheet(
  clip: Clip, columns: int = 10, rows: int = 1, scale: int = 1, gap: int = 2
) -> UInt8[np.ndarray, "height width 3"]:
  """Lays evenly spaced frames, first and last included, on a white sheet.

  Args:
    clip: uint8 (t, h, w, 3).
    columns: frames side by side.
    rows: lines of frames; time runs along them.
    scale: every pixel becomes scale x scale.
    gap: white pixels between frames.
  """
  clip = _check_clip(clip)
  picks = np.linspace(0, len(clip) - 1, columns * rows).round().astype(int)
  cells = clip[picks].repeat(scale, axis=1).repeat(scale, axis=2)
  cells = np.pad(
    cells, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255
  )
  _, height, width, _ = cells.shape
  sheet = cells.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
  sheet = sheet.reshape(rows * height, columns * width, 3)
  return sheet[: rows * height - gap, : columns * width - gap]


def contact_sheet_many(
  clips: Mapping[str, Clip], columns: int = 10, scale: int = 1
) -> UInt8[np.ndarray, "height width 3"]:
  """Stacks the one-row sheets of several clips, each below its caption.

  Args:
    clips: caption to uint8 (t, h, w, 3); all of one height and width.
    columns: frames of each clip.
    scale: every pixel of a clip becomes scale x scale.

  Raises:
    UserError: no clips, or clips of several sizes.
  """
  sizes = {np.shape(clip)[1:] for clip in clips.values()}
  if len(sizes) != 1:
    raise UserError(f"one sheet needs clips of one size, got {sorted(sizes)}")
  font = ImageFont.load_default(size=14)
  strips = []
  for caption, clip in clips.items():
    strip = contact_sheet(clip, columns, scale=scale)
    # Every letter as wide as an "n": captions wrap a little early.
    letters = max(8, int(strip.shape[1] / font.getlength("n")))
    lines = textwrap.wrap(caption, letters) or [""]
    title = Image.new("RGB", (strip.shape[1], 18 * len(lines) + 4), "white")
    ImageDraw.Draw(title).multiline_text(
      (1, 1), "\n".join(lines), fill="black", font=font
    )
    strips += [np.asarray(title), strip]
  return np.concatenate(strips)


def _check_clip(clip: Clip) -> Clip:
  if not clip.size:
    raise UserError(f"the clip is empty: shape {clip.shape}")
  return clip


def _rate(fps: float | int) -> Fraction:
  if fps <= 0:
    raise UserError(f"fps={fps} must be > 0")
  return Fraction(fps).limit_denominator(1001)


def _import_av() -> Any:
  try:
    import av
  except ImportError as e:
    raise UserError("video files need PyAV: pip install av") from e
  return av
