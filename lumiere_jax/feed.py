# SPDX-License-Identifier: Apache-2.0
"""Batches to train on and to measure by, with captions encoded.

A part of the composition root.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lumiere_jax.config import Config
from lumiere_jax.data import loader
from lumiere_jax.encoders import check_encoded
from lumiere_jax.errors import UserError
from lumiere_jax.text.encoder import Encoder


class TextBatches:
  """Training batches whose captions are replaced by their encoding.

  Holds "pixels" uint8, "text" (b s d) float16 and "mask" (b s), which are
  those of the data where they carry them.
  """

  def __init__(self, batches: Any, encoder: Encoder):
    self._batches, self._encoder = batches, encoder
    self.get_state = batches.get_state
    self.set_state = batches.set_state
    self.reorder = batches.reorder

  def __next__(self) -> dict[str, np.ndarray]:
    return self._encoded(next(self._batches))

  def read(self, position: int) -> dict[str, np.ndarray]:
    """The batch at a position; the iterator's own stays where it is.

    Raises:
      UserError: too many of the clips are broken.
    """
    batch = self._batches.read(position)
    for report in batch.pop("broken").tolist():
      self._batches.ledger.add(report)
    return self._encoded(batch)

  def _encoded(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    captions = batch.pop("caption")
    if "text" not in batch:
      encoded = self._encoder.encode([str(c) for c in captions])
      batch["text"], batch["mask"] = encoded
    return batch


def train_batches(
  cfg: Config, encoder: Encoder, rows: Sequence[int] | None = None
) -> TextBatches:
  """Endless batches of this process's share.

  Captions come encoded with the data, or from a text store, or are encoded
  here: all at once where they can be remembered, else as they come.

  Args:
    cfg: of the run.
    encoder: of its text.
    rows: which of a batch's examples this process reads; None is all.

  Raises:
    UserError: there are no such data, or they are of another text encoder.
  """
  batches = loader.make_loader(
    cfg.data,
    stage=cfg.train.stage,
    batch_size=cfg.train.batch_size,
    seed=cfg.train.seed,
    rows=rows,
  )
  sources = batches.sources
  if sources.text is not None:
    check_encoded(
      cfg.text, sources.text, f"captions of {cfg.data.data_dir!r} were encoded"
    )
    if (width := sources.text.get("width")) != cfg.model.encoder_hid_dim:
      raise UserError(
        f"captions of {cfg.data.data_dir!r} have width {width}, the config "
        f"has model.encoder_hid_dim={cfg.model.encoder_hid_dim}"
      )
  else:
    # After what a user can get wrong: it takes a minute.
    encoder.prepare(sources.captions())
  return TextBatches(batches, encoder)


def held_out_batches(
  cfg: Config, encoder: Encoder, batch_size: int, rows: Sequence[int]
) -> tuple[TextBatches, int] | None:
  """Batches of the clips that the data hold back, and how many clips they are.

  Batch i is the same in every run, whatever its seed; None where the data hold
  nothing back.

  Args:
    cfg: of the run.
    encoder: of its text.
    batch_size: clips of a batch, of all processes.
    rows: which of them this process reads.

  Raises:
    UserError: as of `train_batches`.
  """
  data = loader.held_out(cfg.data)
  if data is None:
    return None
  batches = loader.make_loader(
    dataclasses.replace(data, num_workers=0),
    stage=cfg.train.stage,
    batch_size=batch_size,
    seed=0,
    rows=rows,
  )
  return TextBatches(batches, encoder), len(batches.sources)
