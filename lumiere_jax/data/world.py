# SPDX-License-Identifier: Apache-2.0
"""The world of emoji_motion: backgrounds, movements, and the two splits."""

import hashlib
import itertools
from collections.abc import Iterator

import numpy as np

from lumiere_jax.movements import MOVEMENTS

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
  "red": (214, 32, 40),
  "orange": (255, 136, 0),
  "yellow": (255, 228, 50),
  "green": (30, 150, 60),
  "blue": (30, 70, 210),
  "purple": (124, 40, 168),
  "pink": (255, 158, 206),
  "brown": (115, 68, 32),
  "white": (255, 255, 255),
  "black": (0, 0, 0),
  "gray": (128, 128, 128),
  "turquoise": (60, 208, 200),
}

SPLITS = ("train", "held_out")

# One in ten. With fewer than ten movements no pair (emoji, background) can
# lose more than one of its movements, and the other two pairs lose as little.
HELD_OUT_PERIOD = 10


def split_of(emoji: int, background: int, movement: int) -> str:
  """The split that a combination, given by its three indices, belongs to."""
  mark = 3 * emoji + 7 * background + movement
  return SPLITS[mark % HELD_OUT_PERIOD == 0]


def combinations(num_emoji: int, split: str) -> Iterator[tuple[int, int, str]]:
  """Yields (emoji index, background, movement) of every combination."""
  for emoji, (b, background), (m, movement) in itertools.product(
    range(num_emoji), enumerate(BACKGROUNDS), enumerate(MOVEMENTS)
  ):
    if split_of(emoji, b, m) == split:
      yield emoji, background, movement


def generator(seed: int, key: str) -> np.random.Generator:
  """The random numbers of one record, whatever made the others."""
  digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
  return np.random.default_rng(int.from_bytes(digest[:8], "little"))
