# SPDX-License-Identifier: Apache-2.0
"""A text encoder for tests of what uses one: no weights, no package."""

import zlib
from collections.abc import Sequence

import numpy as np


class HashTextEncoder:
  """Gives every word features drawn by its name; has TextEncoder's face."""

  def __init__(self, *, max_tokens: int = 6, width: int = 8):
    self.max_tokens = max_tokens
    self.width = width

  def encode(self, captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns float16 features (b s d) and the mask (b s)."""
    shape = (len(captions), self.max_tokens)
    features = np.zeros((*shape, self.width), np.float16)
    mask = np.zeros(shape, np.bool_)
    for row, caption in enumerate(captions):
      words = ["[CLS]", *caption.lower().split(), "[SEP]"][: self.max_tokens]
      for column, word in enumerate(words):
        random = np.random.default_rng(zlib.crc32(word.encode()))
        features[row, column] = random.normal(size=self.width)
        mask[row, column] = True
    return features, mask

  def prepare(self, captions: Sequence[str]) -> None:
    """Needs no preparation."""

  def read_tokens(self, caption: str) -> int | None:
    """How many tokens of the caption are read, if that is not all of them."""
    cut = len(caption.split()) + 2 > self.max_tokens
    return self.max_tokens if cut else None

  @property
  def empty(self) -> tuple[np.ndarray, np.ndarray]:
    """The encoding of the empty caption, with b = 1."""
    return self.encode([""])
