# SPDX-License-Identifier: Apache-2.0
"""Tells a sprite from the flat background it stands on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from lumiere_jax.evaluation.color import rgb_to_lab

# Distances in CIELAB; 2.3 is just noticeable.
_NEAR = 25.0  # pixels so near to the estimated background colour refine it
_CANDIDATES = 8  # colours that may be the background's
_SOFT_FROM = 6.0  # nearer than this (and than the noise): background
_SOFT_WIDTH = 14.0  # over this distance the mask rises from 0 to 1
_LONELY = 0.25  # a pixel whose 3x3 surroundings are emptier is a speck


@dataclass(frozen=True)
class Foreground:
  """A clip taken apart.

  Attributes:
    lab: the clip in CIELAB.
    background: its background's colour in CIELAB.
    mask: 0 where a pixel shows the background, 1 where it shows the sprite.
  """

  lab: Float[np.ndarray, "t h w 3"]
  background: Float[np.ndarray, "3"]
  mask: Float[np.ndarray, "t h w"]

  def frames(self, picks: Sequence[int]) -> "Foreground":
    """The same of some of the frames."""
    return Foreground(self.lab[picks], self.background, self.mask[picks])


def segment(clip: UInt8[np.ndarray, "t h w 3"]) -> Foreground:
  """Splits a clip into its flat background and what stands on it."""
  lab = rgb_to_lab(clip)
  background = background_color(lab)
  distance = _distance(lab, background)
  # Of Gaussian noise in three channels half lies within 1.5 sigma.
  noise = float(np.median(_rim(distance))) / 1.5
  start = max(_SOFT_FROM, 3 * min(noise, _NEAR / 3))
  mask = np.clip((distance - start) / _SOFT_WIDTH, 0, 1)
  mask *= _neighbourhood(mask) > _LONELY
  return Foreground(lab=lab, background=background, mask=mask)


def _neighbourhood(mask: np.ndarray) -> np.ndarray:
  """Mean of the 3x3 pixels around each one."""
  rows = np.pad(mask, ((0, 0), (1, 1), (0, 0)), mode="edge")
  rows = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
  both = np.pad(rows, ((0, 0), (0, 0), (1, 1)), mode="edge")
  return (both[..., :-2] + both[..., 1:-1] + both[..., 2:]) / 9


def background_color(
  lab: Float[np.ndarray, "t h w 3"],
) -> Float[np.ndarray, "3"]:
  """Estimates the commonest colour along the border of a clip.

  Of the colours in the fullest cells of a coarse histogram, the one with most
  border pixels near by starts it (noise may spread one colour over several
  cells), so a sprite over less than half of the border does not matter. The
  median of the pixels near by, taken three times, refines it.

  Args:
    lab: a clip in CIELAB.
  """
  border = _rim(lab)
  cells = np.floor(border / 10).astype(np.int64)
  codes = ((cells[:, 0] * 64) + cells[:, 1]) * 64 + cells[:, 2]
  _, first, counts = np.unique(codes, return_index=True, return_counts=True)
  candidates = border[first[np.argsort(-counts)[:_CANDIDATES]]]
  color = max(
    candidates, key=lambda c: np.count_nonzero(_distance(border, c) < _NEAR)
  )
  for _ in range(3):
    near = border[_distance(border, color) < _NEAR]
    color = np.median(near, axis=0) if len(near) else color
  return color


def _rim(frames: np.ndarray) -> np.ndarray:
  """The pixels along the border of (t, h, w, ...) frames, in one line."""
  width = max(1, frames.shape[1] // 16)
  at_border = np.ones(frames.shape[1:3], bool)
  at_border[width:-width, width:-width] = False
  return frames[:, at_border].reshape(-1, *frames.shape[3:])


def _distance(lab: np.ndarray, color: np.ndarray) -> np.ndarray:
  offset = lab - color
  return np.sqrt(np.einsum("...c,...c->...", offset, offset))
