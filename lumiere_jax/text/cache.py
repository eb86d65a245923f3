# SPDX-License-Identifier: Apache-2.0
"""Captions encoded once for all runs of a user: text stores in a cache folder.

A folder of the cache is named by its encoder and its captions. It may be
removed at any time; the next run writes it again.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
      info: what the features depend on beside the captions: the encoder's
        weights and settings.
    """
    self._encoder, self._folder, self._info = encoder, folder, dict(info)
    self._stores: list[TextStore] = []
    self.width = encoder.width

  def encode(self, captions: Sequence[str]) -> Encoding:
    """Returns features (b s d) and mask (b s), as `TextEncoder.encode`."""
    for store in self._stores:
      if all(caption in store for caption in captions):
        return store.encode(captions)
    return self._encoder.encode(captions)

  def prepare(self, captions: Sequence[str]) -> None:
    """Encodes all captions to disk, unless an earlier run did.

    As `TextEncoder.prepare`, it leaves them for later if there are too many.
    """
    if len(captions) > self._encoder.capacity:
      self._encoder.prepare(captions)
      return
    place = self._folder / self._key(captions)
    if not place.is_dir():
      self._write(place, captions)
    self._stores.append(TextStore(place))

  def read_tokens(self, caption: str) -> int | None:
    """As `TextEncoder.read_tokens`."""
    return self._encoder.read_tokens(caption)

  @property
  def empty(self) -> Encoding:
    """The encoding of the empty caption, with b = 1."""
    return self._encoder.empty

  def _key(self, captions: Sequence[str]) -> str:
    whole = json.dumps([self._info, list(captions)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:32]

  def _write(self, place: Path, captions: Sequence[str]) -> None:
    """Writes a store; of several processes that do, the first one's stays."""
    print(f"encoding {len(captions):,} captions to {place} (once)", flush=True)
    self._folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=self._folder) as scratch:
      new = Path(scratch) / place.name
      new.mkdir()
      write_store(new, captions, self._encoder, self._info, batch_size=512)
      try:
        os.rename(new, place)
      except OSError:
        if not place.is_dir():
          raise
