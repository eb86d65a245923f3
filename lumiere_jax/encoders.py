# SPDX-License-Identifier: Apache-2.0
"""The frozen text encoder of a configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lumiere_jax.config import Config, TextConfig
from lumiere_jax.errors import UserError
from lumiere_jax.text.cache import CachedEncoder
from lumiere_jax.text.encoder import (
  Encoder,
  Shardings,
  TextEncoder,
  load_minilm,
  minilm_version,
  restore_encoder,
)
from lumiere_jax.text.store import TextStore
from lumiere_jax.weights import bert, folder


def text_encoder(cfg: Config, shardings: Shardings | None = None) -> Encoder:
  """Loads the frozen text encoder and checks that it fits the network.

  Args:
    cfg: names the encoder, or a store of captions it has encoded.
    shardings: where its arrays lie; one device if not given.

  Raises:
    UserError: it is not there, or of another kind, or of another width than
      the network's.
  """
  text = cfg.text
  if text.store:
    encoder = _open_store(text)
  elif text.encoder == "minilm":
    encoder = load_minilm(text, bert.load_bert, shardings)
  else:
    encoder = _saved_encoder(text, shardings)
  if encoder.width != cfg.model.encoder_hid_dim:
    raise UserError(
      f"model.encoder_hid_dim={cfg.model.encoder_hid_dim} must be "
      f"{encoder.width}, the width of text.encoder={text.encoder!r}"
    )
  return encoder


def cached_encoder(cfg: Config, cache: Path) -> Encoder:
  """`text_encoder` whose prepared captions are kept on disk between runs.

  Args:
    cfg: as of `text_encoder`.
    cache: folder of the cache.

  Raises:
    UserError: as `text_encoder`.
  """
  encoder = text_encoder(cfg)
  if not isinstance(encoder, TextEncoder):
    return encoder
  text = cfg.text
  weights = (
    minilm_version()
    if text.encoder == "minilm"
    else folder.load_info(text.weights).fingerprint
  )
  names = ("encoder", "dtype", "lower_case", "max_tokens")
  info = {name: getattr(text, name) for name in names} | {"weights": weights}
  return CachedEncoder(encoder, cache, info)


def _open_store(text: TextConfig) -> TextStore:
  """Captions that the encoder of the config has encoded."""
  store = TextStore(text.store)
  check_encoded(text, store.info, f"text.store={text.store!r} was made")
  return store


def check_encoded(text: TextConfig, info: Mapping[str, Any], what: str) -> None:
  """Checks that captions were encoded as the config would.

  Args:
    text: the config's encoder.
    info: what has encoded them.
    what: they, as a message says it.

  Raises:
    UserError: they were not.
  """
  for name in ("encoder", "lower_case", "max_tokens"):
    if info.get(name) != getattr(text, name):
      raise UserError(
        f"{what} with text.{name}={info.get(name)!r}, the config has "
        f"{getattr(text, name)!r}"
      )


def _saved_encoder(
  text: TextConfig, shardings: Shardings | None
) -> TextEncoder:
  """An encoder that import_weights has written."""
  if not text.weights:
    raise UserError(
      f"text.encoder={text.encoder!r} needs its weights: give "
      "--text_encoder=DIR, a folder that import_weights has written with "
      f"--from=hf-{text.encoder}"
    )
  fields = dict(
    folder.load_config(text.weights, of_encoder=True).get("text_encoder", {})
  )
  kind = fields.pop("kind", None)
  if kind != text.encoder:
    what = f"a {kind!r}" if kind else "no text encoder"
    raise UserError(
      f"--text_encoder={text.weights!r} holds {what}, the model was trained "
      f"with text.encoder={text.encoder!r}"
    )
  params, _, _ = folder.load(text.weights)
  return restore_encoder(text, fields, params, shardings)
