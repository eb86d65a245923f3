# SPDX-License-Identifier: Apache-2.0
"""Contact sheets: the frames of a clip side by side on a picture."""

import textwrap
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from lumiere_jax.errors import UserError
from lumiere_jax.media.pixels import Clip, check_clip


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
  clip = check_clip(clip)
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
