# SPDX-License-Identifier: Apache-2.0
"""A BERT encoder cut down to the words of some captions, and these as tokens.

Reading it needs neither the encoder's package nor its tokenizer. It gives the
features of the whole encoder, but for the half precision of its parameters.
"""

import dataclasses
import zipfile
from pathlib import Path

import jax
import numpy as np

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree
from lumiere_jax.text.bert import Bert, BertConfig
from lumiere_jax.text.encoder import Encoding, abstract_params
from lumiere_jax.text.tokenizer import Tokens

_WORDS, _POSITIONS = "word_embed/embedding", "position_embed/embedding"
_IDS, _LENGTHS = "ids", "lengths"
_BATCH = 256


def write_trimmed(file: Path, params: PyTree, tokens: Tokens) -> None:
  """Writes the encoder and the captions to an .npz file.

  Args:
    file: where to.
    params: of a `Bert`.
    tokens: ids (n s) and mask (n s) of the captions.
  """
  ids, mask = tokens
  used, ids = np.unique(ids, return_inverse=True)
  leaves = {k: np.asarray(v) for k, v in trees.flatten(params).items()}
  leaves[_WORDS] = leaves[_WORDS][used]
  leaves[_POSITIONS] = leaves[_POSITIONS][: mask.shape[1]]
  np.savez(
    file,
    **{_IDS: ids.reshape(mask.shape).astype(np.int16)},
    **{_LENGTHS: mask.sum(1).astype(np.uint8)},
    **{name: leaf.astype(np.float16) for name, leaf in leaves.items()},
  )


def encode_trimmed(file: Path) -> Encoding:
  """Encodes the captions of a file of `write_trimmed`, in their order.

  Returns:
    float16 features (n s d) and the mask (n s), as `TextEncoder.encode`.

  Raises:
    UserError: the file cannot be read, or is not of all-MiniLM-L6-v2's form.
  """
  try:
    # Opened here: NumPy leaves a damaged file open.
    with file.open("rb") as data, np.load(data) as stored:
      leaves = {name: stored[name] for name in stored.files}
    ids = leaves.pop(_IDS).astype(np.int32)
    lengths = leaves.pop(_LENGTHS)
    sizes = {"vocab_size": _WORDS, "max_positions": _POSITIONS}
    sizes = {name: len(leaves[leaf]) for name, leaf in sizes.items()}
  except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
    raise UserError(f"cannot read encoded captions {file}: {error}") from error
  module = Bert(dataclasses.replace(BertConfig(), **sizes))
  params = trees.unflatten({k: np.float32(v) for k, v in leaves.items()})
  difference = trees.diff(abstract_params(module), params)
  if difference:
    raise UserError(f"{file} holds another encoder: {difference}")
  apply = jax.jit(module.apply)
  mask = np.arange(ids.shape[1]) < lengths[:, None]
  features = np.empty((*ids.shape, module.cfg.width), np.float16)
  for start in range(0, len(ids), _BATCH):
    some = slice(start, start + _BATCH)
    # The last batch is filled up: one program serves all.
    missing = ((0, max(0, start + _BATCH - len(ids))), (0, 0))
    rows = (np.pad(x[some], missing, "edge") for x in (ids, mask))
    encoded = apply({"params": params}, *rows)
    features[some] = np.asarray(encoded)[: len(features[some])]
  return features, mask
