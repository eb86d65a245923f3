# SPDX-License-Identifier: Apache-2.0
"""Captions encoded once for all runs of a user: text stores in a cache folder.

ENCODER/CAPTIONS  a text store, both names being digests

A store may be removed at any time; the next run that needs it writes it again,
with what other stores of the encoder have.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax.text.encoder import Encoding, TextEncoder
from lumiere_jax.text.store import TextStore, write_store


class CachedEncoder:
  """A live encoder that reads captions it was prepared for from disk.

  Attributes:
    width: of the features, d.
  """

  def __init__(
    self, encoder: TextEncoder, folder: Path, info: Mapping[str, Any]
  ):
    """Reads nothing yet.

    Args:
      encoder: encodes what is not in the cache.
      folder: the cache; made when it is first needed.
      info: what the features depend on besides the captions: the encoder's
        weights and settings.
    """
    self._encoder, self._info = encoder, dict(info)
    self._folder = folder / _digest(self._info)
    self._stores: list[TextStore] = []
    self.width = encoder.width

  def encode(self, captions: Sequence[str]) -> Encoding:
    """Returns features (b s d) and mask (b s), as `TextEncoder.encode`."""
    sources = [
      next((store for store in self._stores if caption in store), self._encoder)
      for caption in captions
    ]
    if len(set(map(id, sources))) == 1:
      return sources[0].encode(captions)
    pairs = list(zip(captions, sources, strict=True))
    # In whole batches; it remembers them for what follows.
    self._encoder.encode([c for c, source in pairs if source is self._encoder])
    features, mask = zip(*(s.encode([c]) for c, s in pairs), strict=True)
    return np.concatenate(features), np.concatenate(mask)

  def forget(self) -> None:
    """As `TextEncoder.forget`; what is on disk stays."""
    self._encoder.forget()

  def prepare(self, captions: Sequence[str]) -> None:
    """Encodes all captions to disk, unless an earlier run did.

    As `TextEncoder.prepare`, it leaves them for later if there are too many.
    """
    if len(captions) > self._encoder.capacity:
      self._encoder.prepare(captions)
      return
    place = self._folder / _digest(captions)
    if not place.is_dir():
      others = sorted(self._folder.glob("[!.]*"))
      self._stores = [TextStore(other) for other in others]
      self._write(place, captions)
    self._stores.append(TextStore(place))

  def read_tokens(self, caption: str) -> int | None:
    """As `TextEncoder.read_tokens`."""
    return self._encoder.read_tokens(caption)

  @property
  def empty(self) -> Encoding:
    """The encoding of the empty caption, with b = 1."""
    return self._encoder.empty

  def _write(self, place: Path, captions: Sequence[str]) -> None:
    """Writes a store; of several processes that do, the first one's stays."""
    print(f"encoding {len(captions):,} captions to {place} (once)", flush=True)
    self._folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=self._folder) as scratch:
      new = Path(scratch) / place.name
      new.mkdir()
      write_store(new, captions, self, self._info, batch_size=512)
      try:
        os.rename(new, place)
      except OSError:
        if not place.is_dir():
          raise


def _digest(value: Any) -> str:
  text = json.dumps(value, sort_keys=True, default=list)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
