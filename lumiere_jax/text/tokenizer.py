# SPDX-License-Identifier: Apache-2.0
"""Captions to token ids of one fixed length."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Bool, Int

_EXTRA_IDS = 100  # T5's sentinels, which stand behind the pieces of its file

Tokens = tuple[Int[np.ndarray, "b s"], Bool[np.ndarray, "b s"]]


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
    import tokenizers  # Training from encoded captions does without it.

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

  def __call__(self, captions: Sequence[str]) -> Tokens:
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


class SentencePieceTokenizer:
  """T5's spiece.model; for folders that have no tokenizer.json.

  Rows end in </s>. As in transformers 5 the names of special tokens and
  sentinels stand for these tokens inside a caption, too. Its ids differ from
  ours only where its normalization differs from sentencepiece's: at letters
  with several combining marks, and at the control character U+0085.
  """

  def __init__(self, path: Path, *, max_tokens: int):
    """Loads the file, for which it needs the package sentencepiece.

    Args:
      path: of spiece.model.
      max_tokens: length s of every row, </s> included.

    Raises:
      UserError: the package is not there, the file cannot be read, or it has
        no token to pad or to end a row with.
    """
    self._model = _read_pieces(path)
    special = {
      "<pad>": self._model.pad_id(),
      "</s>": self._model.eos_id(),
      "<unk>": self._model.unk_id(),
    }
    for name, index in special.items():
      if index < 0:  # sentencepiece says so of what a model goes without
        raise UserError(f"tokenizer {path} has no token {name!r}")
    self._pad, self._eos = special["<pad>"], special["</s>"]
    last = self._model.vocab_size() + _EXTRA_IDS - 1  # they count backwards
    special |= {f"<extra_id_{i}>": last - i for i in range(_EXTRA_IDS)}
    self._special = special
    self._split = re.compile("(" + "|".join(map(re.escape, special)) + ")")
    self.max_tokens = max_tokens

  def __call__(self, captions: Sequence[str]) -> Tokens:
    """Returns int32 ids, and a mask that is true where there is no padding."""
    shape = (len(captions), self.max_tokens)
    ids, mask = np.full(shape, self._pad, np.int32), np.zeros(shape, np.bool_)
    for row, caption in enumerate(captions):
      tokens = self._encode(caption)[: self.max_tokens - 1]
      ids[row, : len(tokens) + 1] = [*tokens, self._eos]
      mask[row, : len(tokens) + 1] = True
    return ids, mask

  def is_cut(self, caption: str) -> bool:
    """Whether the caption has more tokens than a row holds."""
    return len(self._encode(caption)) >= self.max_tokens

  def _encode(self, caption: str) -> list[int]:
    """The caption's ids without the </s> at its end."""
    ids = []
    for part in self._split.split(caption):
      known = self._special.get(part)
      ids += self._model.encode(part) if known is None else [known]
    return ids


class LowerCase:
  """Reads captions in lower case and without space around, as IF's pipeline."""

  def __init__(self, tokenizer: "Tokenizer | SentencePieceTokenizer"):
    self._tokenizer = tokenizer
    self.max_tokens = tokenizer.max_tokens

  def __call__(self, captions: Sequence[str]) -> Tokens:
    """As the tokenizer's own."""
    return self._tokenizer([caption.lower().strip() for caption in captions])

  def is_cut(self, caption: str) -> bool:
    """As the tokenizer's own."""
    return self._tokenizer.is_cut(caption.lower().strip())


AnyTokenizer = Tokenizer | SentencePieceTokenizer | LowerCase


def load_tokenizer(
  folder: Path, max_tokens: int
) -> Tokenizer | SentencePieceTokenizer:
  """Returns T5's tokenizer from a folder of Hugging Face's.

  Args:
    folder: has tokenizer.json, which is preferred, or spiece.model.
    max_tokens: length of every row, </s> included.

  Raises:
    UserError: it has neither, or what it has cannot be read.
  """
  file, pieces = folder / "tokenizer.json", folder / "spiece.model"
  if file.exists():
    return Tokenizer(file, max_tokens=max_tokens, pad="<pad>")
  if pieces.exists():
    return SentencePieceTokenizer(pieces, max_tokens=max_tokens)
  raise UserError(f"no tokenizer.json and no spiece.model in {folder}")


def _read_pieces(path: Path):
  try:
    import sentencepiece
  except ImportError:
    raise UserError(
      f"reading {path.name} needs a package; run: pip install sentencepiece"
    ) from None
  try:
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
  except (OSError, RuntimeError) as error:
    raise UserError(f"cannot read tokenizer {path}: {error}") from error
