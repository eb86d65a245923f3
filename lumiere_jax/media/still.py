# SPDX-License-Identifier: Apache-2.0
"""Reads images of any kind, upright and at the size wanted."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from lumiere_jax.errors import UserError

FITS = ("crop", "pad", "stretch")
# Of one frame; beyond it a damaged header asks for all memory.
_MAX_PIXELS = 2**26


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


def read_image(
  path: str | os.PathLike[str] | bytes,
  size: tuple[int, int] | None = None,
  fit: str = "crop",
  behind: str = "white",
  centering: tuple[float, float] = (0.5, 0.5),
) -> Picture:
  """Reads an image of any format that Pillow reads, upright, as RGB.

  The first frame of an animation, of at most 2^26 pixels.

  Args:
    path: the file, or all bytes of one.
    size: height and width to bring it to; None keeps its own.
    fit: one of FITS, as in `fit_image`.
    behind: colour that what is transparent becomes.
    centering: as in `fit_image`.

  Raises:
    UserError: no such file, no image in it, too large a one, or one whose
      numbers have no known range (32 bits).
  """
  name = "bytes" if isinstance(path, bytes) else path
  if not isinstance(path, bytes):
    check_file(path, "image")
  try:
    with open_image(path) as file:
      image = flatten(ImageOps.exif_transpose(file), behind)
  except Exception as error:  # Decoders raise whatever a damaged file leads to.
    raise UserError(f"cannot read {name} as an image: {error}") from error
  source = Size(image.height, image.width)
  if size is not None:
    image = fit_image(image, size, fit, centering)
  return Picture(np.asarray(image), source)


def frames_of_image(path: str | os.PathLike[str]) -> int:
  """How many frames an image file has: 0 if Pillow knows of no image in it."""
  try:
    with open_image(path) as file:
      return getattr(file, "n_frames", 1)
  except Exception:  # What damaged headers lead to is told by who reads it.
    return 0


def fit_image(
  image: Image.Image,
  size: tuple[int, int],
  fit: str,
  centering: tuple[float, float] = (0.5, 0.5),
) -> Image.Image:
  """Brings an image to a size.

  Args:
    image: of any size.
    size: height and width it gets.
    fit: "crop" fills the size and cuts off what is over on both sides, "pad"
      shows all and adds black bars, "stretch" changes the proportions.
    centering: shares of what is over that "crop" cuts off on the left and at
      the top.

  Raises:
    UserError: unknown `fit`.
  """
  height, width = size
  target = (width, height)
  if image.size == target:
    return image
  if fit == "crop":
    return ImageOps.fit(
      image, target, Image.Resampling.BICUBIC, centering=centering
    )
  if fit == "pad":
    return ImageOps.pad(image, target, Image.Resampling.BICUBIC, color=0)
  if fit == "stretch":
    return image.resize(target, Image.Resampling.BICUBIC)
  raise UserError(f"unknown fit {fit!r}; choices: {', '.join(FITS)}")


def check_file(path: str | os.PathLike[str], kind: str) -> None:
  """Raises UserError unless there is such a file."""
  if os.fspath(path) and Path(path).is_dir():
    raise UserError(f"{kind} {os.fspath(path)!r} is a folder, not a file")
  if not os.path.isfile(path):
    raise UserError(f"no such {kind} file: {os.fspath(path)!r}")


@contextlib.contextmanager
def open_image(
  path: str | os.PathLike[str] | bytes,
) -> Iterator[Image.Image]:
  """Opens an image file, whose pixels are not decoded yet, in silence."""
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Of odd metadata, and of large images.
    try:
      file = Image.open(io.BytesIO(path) if isinstance(path, bytes) else path)
    except Image.DecompressionBombError:
      raise ValueError(f"it has more than {_MAX_PIXELS:,} pixels") from None
    with file:
      check_size(file.width, file.height)
      yield file


def flatten(image: Image.Image, behind: str) -> Image.Image:
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


def check_size(width: int, height: int) -> None:
  """Raises ValueError for a frame that would ask for too much memory."""
  if not 0 < width * height <= _MAX_PIXELS:
    raise ValueError(
      f"{width} x {height} pixels, it must have 1 to {_MAX_PIXELS:,}"
    )
