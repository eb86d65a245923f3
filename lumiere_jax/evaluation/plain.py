# SPDX-License-Identifier: Apache-2.0
"""Measures of a clip without any network.

Each is of pixels alone and means something beside real clips only. They are not
those of VBench, whatever their names may recall.
"""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, UInt8

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.color import rgb_to_lab
from lumiere_jax.evaluation.flicker import flicker, frame_differences

Clip = UInt8[np.ndarray, "t h w 3"]

_STATIC = 0.5  # Grey levels of change that nobody sees.
BLOCK_PX = 16
LEAST_FRAMES = 4
_FLAT = 2.0  # Spread, in grey levels, of a block that shows nothing.


def plain_measures(clip: Clip, fps: float | int) -> dict[str, float]:
  """All of them by name.

  Raises:
    UserError: the clip is shorter than four frames, or smaller than a block.
  """
  if len(clip) < LEAST_FRAMES:
    raise UserError(f"a clip of {len(clip)} frames is too short to measure")
  return {name: measure(clip, fps) for name, measure in PLAIN.items()}


def smoothness(clip: Clip) -> float:
  """How steadily pixels change: 1 at a steady rate, 0 to and fro.

  One less the mean second difference over twice the mean first one; 1 of a
  clip that does not change.
  """
  first = float(frame_differences(clip).mean())
  return 1.0 - flicker(clip) / first if first else 1.0


def static_share(clip: Clip) -> float:
  """Share of neighbouring frames that look the same."""
  return float((frame_differences(clip) < _STATIC).mean())


def clipped_share(clip: Clip) -> float:
  """Share of values that are 0 or 255, black and white areas among them."""
  return float(((clip == 0) | (clip == 255)).mean())


def sharpness(clip: Clip) -> float:
  """Mean over frames of the Laplacian's standard deviation, in grey levels."""
  gray = _gray(clip)
  inner = gray[:, 1:-1, 1:-1]
  laplacian = (
    gray[:, :-2, 1:-1]
    + gray[:, 2:, 1:-1]
    + gray[:, 1:-1, :-2]
    + gray[:, 1:-1, 2:]
    - 4 * inner
  )
  return float(laplacian.std(axis=(1, 2)).mean())


def color_drift(clip: Clip) -> float:
  """Distance in CIELAB of the mean colours of the first and last quarter.

  A clip whose colours stay, whatever moves in it, has about 0.
  """
  part = max(1, len(clip) // 4)
  means = [
    rgb_to_lab(frames).reshape(-1, 3).mean(axis=0)
    for frames in (clip[:part], clip[-part:])
  ]
  return float(np.linalg.norm(means[0] - means[1]))


def block_speed(clip: Clip, fps: float | int) -> float:
  """How fast the fastest parts move, in frame widths a second.

  Blocks of neighbouring frames are matched by phase correlation (Kuglin and
  Hines 1975), to parts of a pixel; 0.95 of the blocks that show anything are
  slower, mean over frames. Repeating textures and cuts deceive it.

  Raises:
    UserError: a frame is smaller than a block of 16 pixels.
  """
  gray = _gray(clip)
  height, width = gray.shape[1:]
  if min(height, width) < BLOCK_PX:
    raise UserError(
      f"frames of {height} x {width} pixels are smaller than a block of "
      f"{BLOCK_PX}"
    )
  blocks = _blocks(gray)
  found = []
  for one, other in itertools.pairwise(blocks):
    shown = one.std(axis=(1, 2)) > _FLAT
    if not shown.any():
      found.append(0.0)
      continue
    moved = _shifts(one[shown], other[shown])
    found.append(np.quantile(np.linalg.norm(moved, axis=1), 0.95))
  return float(np.mean(found)) * fps / width


def _gray(clip: Clip) -> Float[np.ndarray, "t h w"]:
  return clip.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _blocks(
  gray: Float[np.ndarray, "t h w"],
) -> Float[np.ndarray, "t n size size"]:
  """Blocks that do not overlap; what is left at the far ends is left out."""
  size = BLOCK_PX
  t, h, w = gray.shape
  cut = gray[:, : h // size * size, : w // size * size]
  cut = cut.reshape(t, h // size, size, w // size, size).swapaxes(2, 3)
  return cut.reshape(t, -1, size, size)


def _shifts(
  one: Float[np.ndarray, "n size size"], other: Float[np.ndarray, "n size size"]
) -> Float[np.ndarray, "n 2"]:
  """By how many pixels (down, right) each block has moved."""
  window = np.hanning(BLOCK_PX + 2)[1:-1]
  window = (window[:, None] * window).astype(np.float32)

  def spectrum(x: np.ndarray) -> np.ndarray:
    return np.fft.fft2((x - x.mean(axis=(1, 2), keepdims=True)) * window)

  cross = spectrum(other) * spectrum(one).conj()
  peak = np.fft.ifft2(cross / (np.abs(cross) + 1e-6)).real
  at = peak.reshape(len(peak), -1).argmax(axis=1)
  places = np.stack(np.unravel_index(at, peak.shape[1:]), axis=1)
  return np.stack(
    [
      [_refined(p[:, x], y), _refined(p[y, :], x)]
      for p, (y, x) in zip(peak, places.tolist(), strict=True)
    ]
  )


def _refined(line: np.ndarray, at: int) -> float:
  """The place of a peak between samples (a parabola), from -size/2 on."""
  size = len(line)
  before, top, behind = line[at - 1], line[at], line[(at + 1) % size]
  bend = before - 2 * top + behind
  part = 0.5 * (before - behind) / bend if bend else 0.0
  place = at + part
  return float(place - size if place > size / 2 else place)


# By the names that reports have them under.
PLAIN: Mapping[str, Callable[[Clip, float | int], float]] = {
  "pixel_flicker": lambda clip, _: flicker(clip),
  "pixel_smoothness": lambda clip, _: smoothness(clip),
  "block_speed": block_speed,
  "color_drift": lambda clip, _: color_drift(clip),
  "laplacian_sharpness": lambda clip, _: sharpness(clip),
  "clipped_share": lambda clip, _: clipped_share(clip),
  "static_share": lambda clip, _: static_share(clip),
}
