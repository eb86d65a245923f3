# SPDX-License-Identifier: Apache-2.0
"""Real clips spoilt in known ways: what a score makes of each is its bias.

A score that is blind to movement hardly tells frozen or shuffled clips from
real ones (arXiv 2404.12391).
"""

from collections.abc import Callable

import numpy as np

from lumiere_jax.shapes import UInt8

Clip = UInt8[np.ndarray, "t h w 3"]

NOISE = 0.1  # Standard deviation, of the whole range of a pixel.


def frozen(clip: Clip, rng: np.random.Generator) -> Clip:
  """The middle frame, for the whole time."""
  del rng
  return np.repeat(clip[len(clip) // 2][None], len(clip), axis=0)


def shuffled(clip: Clip, rng: np.random.Generator) -> Clip:
  """The same frames in random order."""
  return clip[rng.permutation(len(clip))]


def reversed_in_time(clip: Clip, rng: np.random.Generator) -> Clip:
  """Backwards."""
  del rng
  return clip[::-1]


def noised(clip: Clip, rng: np.random.Generator) -> Clip:
  """With normal noise of its own in every pixel."""
  noise = rng.standard_normal(clip.shape) * (NOISE * 255)
  return (clip + noise).round().clip(0, 255).astype(np.uint8)


CANARIES: dict[str, Callable[[Clip, np.random.Generator], Clip]] = {
  "frozen": frozen,
  "shuffled": shuffled,
  "reversed": reversed_in_time,
  "noised": noised,
}


def spoil(name: str, clip: Clip, seed: int, index: int) -> Clip:
  """A canary of a clip, the same for the same seed and index."""
  return CANARIES[name](clip, np.random.default_rng((seed, index)))
