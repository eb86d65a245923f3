# SPDX-License-Identifier: Apache-2.0
"""Trains one stage: python -m lumiere_jax.train --config=... --workdir=...

The same command again resumes. When it ends, or is stopped by a signal, the
averaged weights lie in WORKDIR/weights; stopped, it exits with status 143, so
that what waits for its end does not begin. Started by several processes at once
(launch/), they train together.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from lumiere_jax import (
  build,
  cli,
  encoders,
  evaluators,
  feed,
  initial,
  sharding,
  stage,
  trees,
)
from lumiere_jax.checkpoint import Checkpointer, Keep
from lumiere_jax.config import Config, TrainConfig, to_dict
from lumiere_jax.data import loader
from lumiere_jax.errors import PREEMPTED
from lumiere_jax.shapes import PyTree
from lumiere_jax.training.log import Logger
from lumiere_jax.training.loop import Parts, train
from lumiere_jax.training.phases import Phases
from lumiere_jax.training.snapshots import Snapshots
from lumiere_jax.training.state import full_ema, place_state
from lumiere_jax.weights import folder


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(prog="lumiere_jax.train", description=__doc__)
  parser.add_argument("--config", required=True, help="a configs/*.py file")
  parser.add_argument("--workdir", help="folder of the run")
  parser.add_argument(
    "--init_from", help="weights to begin with (config.train.init_from)"
  )
  parser.add_argument(
    "--text_encoder", help="its weights (config.text.weights)"
  )
  parser.add_argument(
    "--dry_run", action="store_true", help="print what would be trained"
  )
  parser.add_argument(
    "--allow_changes",
    action="store_true",
    help="resume in spite of another config or other data",
  )
  args, overrides = cli.parse(parser, argv)
  cli.join_processes()
  overrides |= cli.as_overrides(
    {
      "train.init_from": args.init_from or None,
      "text.weights": args.text_encoder or None,
    }
  )
  cfg = cli.resolve(cli.read_recipe(args.config), overrides)
  if args.dry_run:
    # What the file names may not have been trained yet.
    if args.init_from or Path(cfg.train.init_from).is_dir():
      cfg = initial.with_imported(cfg)
      initial.check_initial(cfg)
    print(describe(cfg))
    return
  cfg = initial.with_imported(cfg)
  if not args.workdir:
    parser.error("--workdir is needed to train")
  cli.enable_compilation_cache()
  cli.keep_freed_memory()
  with cli.output_folder("--workdir", args.workdir) as workdir:
    fit(cfg, workdir, allow_changes=args.allow_changes)


def describe(cfg: Config) -> str:
  """The resolved config, every parameter, and whether it trains."""
  params = build.abstract_params(cfg.model)
  trained, frozen = build.trainable(cfg, params)
  lines = [json.dumps(to_dict(cfg), indent=2), ""]
  flat = trees.flatten(trained)
  for path, leaf in sorted(trees.flatten(params).items()):
    state = "train " if path in flat else "frozen"
    lines.append(f"{state} {leaf.size:>12,}  {path} {leaf.shape} {leaf.dtype}")
  lines.append(
    f"trainable {trees.count(trained):,}, frozen {trees.count(frozen):,}"
  )
  for name, leaf in stage.abstract_batch(cfg).items():
    lines.append(f"{name} {leaf.shape} {leaf.dtype}")
  return "\n".join(lines)


def fit(cfg: Config, workdir: Path, *, allow_changes: bool = False) -> None:
  """Begins or resumes the run in `workdir` and writes its weights.

  Raises:
    UserError: data, weights or encoder are missing, or the checkpoint there
      is of another run.
    SystemExit: a signal stopped it.
  """
  mine = jax.process_index() == 0
  phases = Phases(workdir, timeout=cfg.train.watchdog_seconds, writes=mine)
  fingerprint = loader.fingerprint(cfg.data)
  licence = loader.attribution(cfg.data)
  mesh = sharding.make_mesh(cfg.mesh)
  encoder = encoders.text_encoder(cfg)
  step, tx, like = stage.make_stage(cfg, encoder.empty, mesh)
  logger = Logger(workdir, cfg.train, phases, writes=mine)
  logger.say(
    f"{cfg.name}: {trees.count(like.params):,} parameters train, "
    f"{trees.count(like.frozen):,} are frozen; {jax.device_count()} x "
    f"{jax.devices()[0].device_kind}"
  )
  checkpointer = Checkpointer(
    workdir / "checkpoints",
    {**to_dict(cfg), "init_from_fingerprint": initial.origin(cfg)},
    fingerprint,
    keep=_keep(cfg.train),
    allow_changes=allow_changes,
  )
  rows = sharding.local_rows(mesh, cfg.train.batch_size).tolist()
  batches = feed.train_batches(cfg, encoder, rows)
  measured = evaluators.make(cfg, encoder, workdir, mesh, logger.say)
  snapshots = Snapshots(workdir, cfg.train)
  parts = Parts(
    step, batches, checkpointer, logger, phases, measured, snapshots
  )
  state = checkpointer.restore(like, parts.hosts)
  if state is None:
    params = build.trainable(cfg, initial.initial_params(cfg, mesh))
    state = place_state(*params, tx, like)
    del params  # Copied.
  state = train(state, parts, cfg.train)
  checkpointer.close()
  write_weights(cfg, full_ema(state), workdir, licence)
  logger.say(phases.table())
  if int(state.step) < cfg.train.steps:
    sys.exit(PREEMPTED)


def _keep(cfg: TrainConfig) -> Keep:
  return Keep(cfg.keep_checkpoints, cfg.keep_every_hours, cfg.keep_best)


def write_weights(
  cfg: Config, params: PyTree, workdir: Path, licence: str
) -> None:
  """Writes WORKDIR/weights, in place of what this run wrote there before."""
  params = sharding.on_host(params)
  if jax.process_index():
    return
  new, final = workdir / "weights.new", workdir / "weights"
  old = workdir / "weights.old"
  shutil.rmtree(new, ignore_errors=True)
  shutil.rmtree(old, ignore_errors=True)
  config = to_dict(dataclasses.replace(cfg, weights=""))
  folder.save(new, params, config, licence, dtype=cfg.train.weights_dtype)
  if final.exists():
    final.rename(old)
  new.rename(final)
  shutil.rmtree(old, ignore_errors=True)
  print(f"weights: {final}")


if __name__ == "__main__":
  cli.run(main)
