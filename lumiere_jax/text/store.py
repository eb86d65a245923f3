# SPDX-License-Identifier: Apache-2.0
"""Captions encoded once and stored: what training at scale reads.

captions.json  the captions, in order; the first is the empty one
features.npy   float16 (n, s, d)
mask.npy       bool (n, s)
info.json      what encoded them
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from lumiere_jax.errors import UserError
from lumiere_jax.text.encoder import Encoding

_CAPTIONS, _INFO = "captions.json", "info.json"
_FEATURES, _MASK = "features.npy", "mask.npy"


class TextStore:
  """The encodings of a folder, with the face of `TextEncoder`.

  Features stay on disk and are read, caption by caption, when asked for.

  Attributes:
    width: of the features, d.
    info: what encoded them.
  """

  def __init__(self, folder: Path | str):
    """Opens the folder.

    Raises:
      UserError: it cannot be read.
    """
    self._folder = Path(folder)
    try:
      captions = json.loads((self._folder / _CAPTIONS).read_text("utf-8"))
      self.info = json.loads((self._folder / _INFO).read_text("utf-8"))
      self._features = np.load(self._folder / _FEATURES, mmap_mode="r")
      self._mask = np.load(self._folder / _MASK)
    except (OSError, ValueError) as error:
      raise UserError(f"cannot read text store {folder}: {error}") from error
    self._rows = {caption: row for row, caption in enumerate(captions)}
    self.width = self._features.shape[-1]

  def __contains__(self, caption: str) -> bool:
    return caption in self._rows

  def encode(self, captions: Sequence[str]) -> Encoding:
    """Returns features (b s d) and mask (b s), as `TextEncoder.encode`.

    Raises:
      UserError: a caption is not in the store.
    """
    self.prepare(captions)
    rows = [self._rows[caption] for caption in captions]
    return self._features[rows], self._mask[rows]

  def prepare(self, captions: Sequence[str]) -> None:
    """Checks that the captions are there; reads none of them.

    Raises:
      UserError: a caption is not in the store.
    """
    for caption in captions:
      if caption not in self._rows:
        raise UserError(
          f"caption {caption!r} is not in text store {self._folder}; it holds "
          f"{len(self._rows) - 1} others"
        )

  def read_tokens(self, caption: str) -> int | None:
    """Always None: what was cut, was cut when the caption was encoded."""
    del caption
    return None

  @property
  def empty(self) -> Encoding:
    """The encoding of the empty caption, with b = 1."""
    return self.encode([""])


@runtime_checkable
class Forgetful(Protocol):
  """What encodes captions, and keeps them until it is told to forget."""

  def encode(self, captions: Sequence[str]) -> Encoding: ...

  def forget(self) -> None: ...


def write_store(
  folder: Path | None,
  captions: Sequence[str],
  encoder: Forgetful,
  info: Mapping[str, Any],
  *,
  batch_size: int,
) -> int:
  """Encodes captions, each once, into an empty folder; returns how many.

  Args:
    folder: where to; None writes nothing, in a process that only helps.
    captions: what to encode; the empty caption comes along.
    encoder: how.
    info: of the encoder; kept beside them.
    batch_size: captions written at a time.
  """
  unique = list(dict.fromkeys(["", *captions]))
  features, mask = None, []
  for start in tqdm(range(0, len(unique), batch_size), "captions"):
    part = unique[start : start + batch_size]
    rows, part_mask = encoder.encode(part)
    encoder.forget()
    if folder is None:
      continue
    if features is None:
      features = np.lib.format.open_memmap(
        folder / _FEATURES,
        mode="w+",
        dtype=rows.dtype,
        shape=(len(unique), *rows.shape[1:]),
      )
    features[start : start + len(part)] = rows
    mask.append(part_mask)
  if folder is None:
    return len(unique)
  features.flush()
  np.save(folder / _MASK, np.concatenate(mask))
  (folder / _CAPTIONS).write_text(json.dumps(unique), encoding="utf-8")
  (folder / _INFO).write_text(json.dumps(dict(info), indent=2) + "\n")
  return len(unique)
