# SPDX-License-Identifier: Apache-2.0
"""Encodes captions once: python -m lumiere_jax.embed_text --config=...

The captions are those of the config's data set and of its sample prompts, or
the lines of --prompts.
Training reads the result with --config.text.store=OUT and needs no encoder
then. Batches are split over all devices, those of other processes too if a
launcher started several.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from lumiere_jax import cli, encoders, sharding
from lumiere_jax.config import Config
from lumiere_jax.data import loader
from lumiere_jax.errors import UserError
from lumiere_jax.inference.prompt import read_prompts
from lumiere_jax.text.encoder import Encoding, Shardings, TextEncoder
from lumiere_jax.text.store import write_store
from lumiere_jax.weights.shards import new_folder


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(prog="lumiere_jax.embed_text", description=__doc__)
  add = parser.add_argument
  add("--config", required=True, help="a configs/*.py file")
  add("--text_encoder", help="weights folder of the text encoder")
  add("--prompts", help="text file with a caption on each line")
  add("--out", required=True, help="folder to write")
  args, overrides = cli.parse(parser, argv)
  cli.join_processes()
  fields = {"text.weights": args.text_encoder or None, "text.store": ""}
  overrides |= cli.as_overrides(fields)
  cfg = cli.resolve(cli.read_config(args.config), overrides)
  cli.enable_compilation_cache()
  captions = read_prompts([], args.prompts) if args.prompts else _captions(cfg)
  count = embed(cfg, captions, Path(args.out))
  if not jax.process_index():
    print(f"{count} captions: {args.out}")


def _captions(cfg: Config) -> list[str]:
  """All that a run asks for: of its clips, its samples and what it measures."""
  captions = [*loader.captions(cfg.data), *cfg.train.sample_prompts]
  if cfg.train.eval_every and (held_out := loader.held_out(cfg.data)):
    captions += loader.captions(held_out)
  return captions


def embed(cfg: Config, captions: Sequence[str], out: Path) -> int:
  """Encodes captions into a text store; returns how many.

  Args:
    cfg: names the encoder; text.batch_size captions are encoded in one call
      of each process.
    captions: in any order; each is encoded once.
    out: folder to write, absent or empty.

  Raises:
    UserError: no encoder, or batches that the devices cannot share.
  """
  mesh = sharding.make_mesh(devices=jax.local_devices())
  if cfg.text.batch_size % mesh.size:
    raise UserError(
      f"text.batch_size={cfg.text.batch_size} must be a multiple of the "
      f"{mesh.size} devices"
    )
  shardings = Shardings(
    params=sharding.replicated(mesh), tokens=sharding.batch_sharding(mesh, 2)
  )
  encoder = encoders.text_encoder(cfg, shardings)
  info = dataclasses.asdict(cfg.text)
  processes, size = jax.process_count(), cfg.text.batch_size
  if processes > 1:
    encoder, size = _Spread(encoder), size * processes
  # One process writes.
  writing = contextlib.nullcontext() if jax.process_index() else new_folder(out)
  with writing as new:
    return write_store(new, captions, encoder, info, batch_size=size)


class _Spread:
  """The encoder of all processes: each encodes a share of what all ask for."""

  def __init__(self, encoder: TextEncoder):
    self._encoder = encoder
    self.forget = encoder.forget

  def encode(self, captions: Sequence[str]) -> Encoding:
    """As of the encoder; on all processes."""
    count = jax.process_count()
    # Shares are of one size: the last captions fill them up.
    share = -(-len(captions) // count)
    filled = [*captions, *captions[-1:] * (share * count - len(captions))]
    first = jax.process_index() * share
    mine = self._encoder.encode(filled[first : first + share])
    both = multihost_utils.process_allgather(mine, tiled=True)
    features, mask = (np.asarray(x)[: len(captions)] for x in both)
    return features, mask


if __name__ == "__main__":
  cli.run(main)
