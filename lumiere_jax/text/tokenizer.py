# SPDX-License-Identifier: Apache-2.0
"""Captions to token ids of one fixed length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Bool, Int


class Tokenizer:
  """A tokenizer.json whose output is padded or cut to a fixed length."""

  def __init__(self, path: Path, *, max_tokens: int, pad: str = "[PAD]"):
    """Loads the file.

    Args:
      path: of tokenizer.json.
      max_tokens: length s of every row, special tokens included.
      pad: token that fills a row up.

    Raises:
      UserError: the file cannot be read, or has no such token.
    """
    try:
      self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # The library raises nothing narrower.
      raise UserError(f"cannot read tokenizer {path}: {error}") from error
    pad_id = self._tokenizer.token_to_id(pad)
    if pad_id is None:
      raise UserError(f"tokenizer {path} has no token {pad!r}")
    self._tokenizer.enable_truncation(max_tokens)
    self._tokenizer.enable_padding(
      length=max_tokens, pad_id=pad_id, pad_token=pad
    )
    self.max_tokens = max_tokens

  def __call__(
    self, captions: Sequence[str]
  ) -> tuple[Int[np.ndarray, "b s"], Bool[np.ndarray, "b s"]]:
    """Returns int32 ids, and a mask that is true where there is no padding."""
    shape = (len(captions), self.max_tokens)
    ids, mask = np.zeros(shape, np.int32), np.zeros(shape, np.bool_)
    # One by one: encode_batch starts threads, which a later fork dislikes.
    for row, caption in enumerate(captions):
      encoding = self._tokenizer.encode(caption)
      ids[row], mask[row] = encoding.ids, encoding.attention_mask
    return ids, mask

  def is_cut(self, caption: str) -> bool:
    """Whether the caption has more tokens than a row holds."""
    return bool(self._tokenizer.encode(caption).overflowing)
