# SPDX-License-Identifier: Apache-2.0
"""Trains one stage: python -m lumiere_jax.train --config=... --workdir=...

The same command again resumes. When it ends, or is stopped by a signal, the
averaged weights lie in WORKDIR/weights; stopped, it exits with status 143, so
that what waits for its end does not begin.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from lumiere_jax import build, cli, initial, media, sharding, trees
from lumiere_jax.checkpoint import Checkpointer
from lumiere_jax.config import Config, to_dict
from lumiere_jax.data import loader
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.inference.generate import Text
from lumiere_jax.shapes import PyTree
from lumiere_jax.text.encoder import Encoder
from lumiere_jax.training.log import Logger
from lumiere_jax.training.loop import Hook, train
from lumiere_jax.training.optimizer import make_optimizer
from lumiere_jax.training.state import TrainState, full_ema, init_state
from lumiere_jax.training.step import make_train_step
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
  overrides |= cli.as_overrides(
    {
      "train.init_from": args.init_from or None,
      "text.weights": args.text_encoder or None,
    }
  )
  cfg = cli.resolve(cli.read_config(args.config), overrides)
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
  d, b = cfg.data, cfg.train.batch_size
  size = d.train_size if cfg.train.stage == "video" else d.train_size[1:]
  lines.append(f"pixels {(b, *size, 3)} uint8")
  lines.append(f"text {(b, cfg.text.max_tokens, cfg.model.encoder_hid_dim)}")
  return "\n".join(lines)


def fit(cfg: Config, workdir: Path, *, allow_changes: bool = False) -> None:
  """Begins or resumes the run in `workdir` and writes its weights.

  Raises:
    UserError: data, weights or encoder are missing, or the checkpoint there
      is of another run.
    SystemExit: a signal stopped it.
  """
  fingerprint = loader.fingerprint(cfg.data)
  licence = loader.attribution(cfg.data)
  params, origin = initial.initial_params(cfg)
  params, frozen = build.trainable(cfg, params)
  encoder = build.text_encoder(cfg)
  print(
    f"{cfg.name}: {trees.count(params):,} parameters train, "
    f"{trees.count(frozen):,} are frozen; {jax.device_count()} x "
    f"{jax.devices()[0].device_kind}",
    flush=True,
  )
  tx, schedule = make_optimizer(cfg.train)
  batches = build.train_batches(cfg, encoder)

  mesh = sharding.make_mesh()
  state = init_state(params, frozen, tx)
  shardings = sharding.shard_tree(state, mesh)
  state = sharding.place_tree(state, shardings)
  step = make_train_step(
    build.loss_fn(cfg, encoder),
    tx,
    schedule,
    cfg.train,
    num_timesteps=cfg.diffusion.schedule.num_train_timesteps,
    mesh=mesh,
    state_shardings=shardings,
  )
  logger = Logger(workdir, cfg.train)
  checkpointer = Checkpointer(
    workdir / "checkpoints",
    {**to_dict(cfg), "init_from_fingerprint": origin},
    fingerprint,
    keep=cfg.train.keep_checkpoints,
    allow_changes=allow_changes,
  )
  state = checkpointer.restore(state, {"data": batches, "log": logger})
  hooks = ()
  if cfg.train.sample_every:
    hooks = (sample_hook(cfg, encoder, workdir),)
  state = train(state, step, batches, checkpointer, logger, cfg.train, hooks)
  checkpointer.close()
  write_weights(cfg, full_ema(state), workdir, licence)
  if int(state.step) < cfg.train.steps:
    sys.exit(143)  # Of a process that SIGTERM ended.


def sample_hook(cfg: Config, encoder: Encoder, workdir: Path) -> Hook:
  """A hook that writes all sample prompts' frames on a sheet, and the clips."""
  task = "text_to_video" if cfg.train.stage == "video" else "text_to_image"
  generator = build.generator(cfg, task)
  # Now, so that a prompt that cannot be encoded ends no run half way.
  texts = {p: Text(*encoder.encode([p])) for p in cfg.train.sample_prompts}
  negative = Text(*encoder.empty)
  given = build.given_batch(cfg, task, None, 1)

  def write(state: TrainState, step: int) -> None:
    params, clips = full_ema(state), {}
    for i, (prompt, text) in enumerate(texts.items()):
      keys = sample_keys(cfg.train.seed, [i])
      pixels = media.to_uint8(
        generator(params, text, negative, keys, given=given)[0]
      )
      clips[prompt] = pixels if pixels.ndim == 4 else pixels[None]
    columns, scale = (1, 8) if cfg.train.stage == "image" else (10, 2)
    sheet = media.contact_sheet_many(clips, columns=columns, scale=scale)
    samples = workdir / "samples"
    samples.mkdir(exist_ok=True)
    path = samples / f"step_{step:07d}.png"
    path.unlink(missing_ok=True)  # Of a run that died after this step.
    media.write_png(path, sheet)
    if cfg.train.stage == "video":
      for i, clip in enumerate(clips.values()):
        path = samples / f"step_{step:07d}_{i}.webp"
        path.unlink(missing_ok=True)
        media.write_webp(path, clip, cfg.data.fps)

  return write


def write_weights(
  cfg: Config, params: PyTree, workdir: Path, licence: str
) -> None:
  """Writes WORKDIR/weights, in place of what this run wrote there before."""
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
