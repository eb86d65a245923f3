# SPDX-License-Identifier: Apache-2.0
"""Measures a model: python -m lumiere_jax.evaluate --config=...

Makes clips for combinations of object, background and movement that training
saw and for held-out ones (of the larger world for held-out wordings too), and
measures them beside real clips (the ceiling)
and beside the same clips under other clips' captions (the floor). Every other
task is measured on parts of the real held-out clips, beside what those would
be filled with without a model; super-resolution on real clips made small,
beside bicubic and Lanczos filters; a style (--style) along its alpha. The real
clips come from the data set, so --config.data.data_dir must hold it.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax import cli, media, trials
from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.style import ALPHAS
from lumiere_jax.config import Config, DataConfig
from lumiere_jax.data import loader, world
from lumiere_jax.data.objects import is_world
from lumiere_jax.enlarging import upscale_rows
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import (
  STYLE_PROTOCOL,
  Gallery,
  Labels,
  Strokes,
  evaluate_rows,
  format_table,
  shuffle_labels,
  strokes,
  style_row,
)
from lumiere_jax.evaluation.perceptual import FeatureDistance
from lumiere_jax.evaluation.report import MIN_CLIPS
from lumiere_jax.linked import style_fingerprint, weights_config
from lumiere_jax.movements import drawn_scale
from lumiere_jax.studio import Studio

Pairs = list[tuple[np.ndarray, Labels]]

# Training clips whose frames are the gallery of retrieval: about 20 of each of
# 32 objects, or all 8 of each of 200.
GALLERY_CLIPS, WORLD_GALLERY_CLIPS = 640, 1600


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What to measure, and on how much.

  Attributes:
    num_clips: clips in each row.
    seed: of the generated clips and of the shuffled captions.
    clips: folder that keeps the generated clips, if given.
    tasks: a row for each; None for all that the model can do.
    style: a row for each alpha towards it; "" for none.
    style_data: where the stills lie that the style was trained on.
    features: folder of the network that enlarged clips are compared by; ""
      leaves that out.
    split: of the data set, whose clips are enlarged.
  """

  num_clips: int = MIN_CLIPS
  seed: int = 0
  clips: str | None = None
  tasks: tuple[str, ...] | None = None
  style: str = ""
  style_data: str = ""
  features: str = ""
  split: str = "held_out"


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  args, overrides = cli.parse(_parser(), argv)
  file = cli.read_config(args.config)
  values = weights_config(args.weights or file.get("weights", ""), file)
  overrides |= cli.as_overrides({"text.weights": args.text_encoder or None})
  config = cli.resolve(values, overrides)
  options = _options(args)
  # Before the hour of work, not after it.
  media.check_free(args.out)
  cli.enable_compilation_cache()
  with cli.output_folder("--out", str(Path(args.out).parent)):
    report = evaluate(config, options)
  media.write_json(args.out, report)
  print(format_table(report))
  print(args.out)


def _parser() -> argparse.ArgumentParser:
  parser = cli.Parser(prog="lumiere_jax.evaluate", description=__doc__)
  add = parser.add_argument
  add("--config", required=True, help="a configs/*.py file")
  add("--weights", help="other weights than the config's")
  add("--text_encoder", help="its weights folder")
  add("--out", default="metrics.json", help="JSON file to write")
  add("--num_clips", type=int, default=MIN_CLIPS, help="of each row")
  add("--seed", type=int, default=0)
  add(
    "--tasks",
    help="comma-separated; all that the weights can do if not given, none if "
    "empty",
  )
  add("--style", default="", help="measure this style along its alpha too")
  add("--style_data", default="", help="data_dir of the style's stills")
  add(
    "--features",
    default="",
    help="folder that import_weights --from=efficientnet-lite0 wrote: compares "
    "enlarged clips in its features too",
  )
  add(
    "--split",
    default="held_out",
    choices=world.SPLITS,
    help="whose clips are enlarged: settings are chosen on the training split",
  )
  add(
    "--clips",
    help="folder that keeps the generated clips: what lies there already "
    "is not made again, so an interrupted evaluation goes on",
  )
  add(
    "--allow_small", action="store_true", help=f"fewer than {MIN_CLIPS} clips"
  )
  return parser


def _options(args: argparse.Namespace) -> Options:
  """Raises UserError if the flags ask for nothing that can be measured."""
  if args.num_clips < MIN_CLIPS and not args.allow_small:
    raise UserError(
      f"--num_clips={args.num_clips} is less than {MIN_CLIPS}, too few for a "
      "figure to mean anything; --allow_small measures them all the same"
    )
  if args.num_clips < 1:
    raise UserError(f"--num_clips={args.num_clips} must be at least 1")
  if bool(args.style) != bool(args.style_data):
    raise UserError("--style and --style_data go together")
  tasks = None
  if args.tasks is not None:
    tasks = tuple(name for name in args.tasks.split(",") if name)
    trials.check_tasks(tasks)
  return Options(
    num_clips=args.num_clips,
    seed=cli.check_seed(args.seed),
    clips=args.clips,
    tasks=tasks,
    style=args.style,
    style_data=args.style_data,
    features=args.features,
    split=args.split,
  )


def evaluate(config: Config, options: Options) -> dict[str, Any]:
  """The report of a model: rows by name, and how they were measured.

  Args:
    config: names the weights and where the data set lies.
    options: what to measure.

  Raises:
    UserError: no data set, no weights for a task, no such style, or nothing
      to measure.
  """
  model = Lumiere.from_config(config)
  if options.style:
    # Refused now, not after an hour.
    model.with_style(options.style, 1.0)
    for cfg in _styled_data(config, options).values():
      loader.dataset_folder(cfg)
  tasks = options.tasks
  if tasks is None:
    tasks = trials.possible_tasks(model.config)
  if not tasks and not options.style:
    raise UserError("--tasks is empty and there is no --style to measure")
  models = {task: model.for_task(task) for task in tasks}
  distance = None
  if options.features:
    distance = FeatureDistance.load(options.features)
  studio = Studio(config, options.seed, options.clips)
  report = {}
  upscales = bool(models.pop("upscale", None))
  if models or options.style:
    report = _clip_report(model, models, studio, options)
  if upscales:
    report["upscale"] = upscale_rows(
      model, studio, options.num_clips, distance, options.split
    )
  return report


def _clip_report(
  model: Lumiere,
  models: Mapping[str, Lumiere],
  studio: Studio,
  options: Options,
) -> dict[str, Any]:
  """All rows of clips that a model makes of words and of parts of clips."""
  config = studio.config
  real = list(loader.read_clips(config.data, "held_out", options.num_clips))
  gallery = _gallery(config, real)
  rows = {}
  if "text_to_video" in models:
    rows = _text_rows(model, studio, real)
  report = evaluate_rows(rows, gallery, world.BACKGROUNDS, allow_small=True)
  report["protocol"] |= studio.made_with(model)
  report["protocol"]["gallery_clips"] = _gallery_clips(config)
  for task in (task for task in models if task != "text_to_video"):
    make = studio.maker(models[task], task, task, len(real))
    report[task] = trials.task_row(task, real, make, gallery, world.BACKGROUNDS)
    fingerprint = models[task].info.fingerprint
    report[task]["weights_fingerprint"] = fingerprint
  if options.style:
    rows = _style_rows(model, studio, real, gallery, options)
    report["style"] = {options.style: rows}
  return report


def _gallery(config: Config, real: Sequence[loader.LabelledClip]) -> Gallery:
  """Real training clips of every object.

  Raises:
    UserError: one that is to be found is not there.
  """
  gallery = Gallery(
    (clip.video, clip.emoji, drawn_scale(clip.movement, clip.size))
    for clip in loader.read_clips(config.data, "train", _gallery_clips(config))
  )
  missing = sorted({clip.emoji for clip in real} - set(gallery.objects))
  if missing:  # Before the clips are made, not after.
    raise UserError(
      f"the gallery of training clips shows no {missing[0]!r} "
      f"and {len(missing) - 1} other objects of the held-out split"
    )
  return gallery


def _gallery_clips(config: Config) -> int:
  world = is_world(config.data.config)
  return WORLD_GALLERY_CLIPS if world else GALLERY_CLIPS


def _text_rows(
  model: Lumiere, studio: Studio, real: Sequence[loader.LabelledClip]
) -> dict[str, Pairs]:
  """Clips of captions alone, beside the real ones."""
  config, count = studio.config, len(real)
  seen = _generated(
    model, studio, "train", list(loader.read_clips(config.data, "train", count))
  )
  held_out = _generated(model, studio, "held_out", real)
  others = {}
  if is_world(config.data.config):
    worded = list(loader.read_clips(config.data, "wordings", count))
    others["wordings"] = _generated(model, studio, "wordings", worded)
  seed = studio.seed
  return {
    "seen": seen,
    "held_out": held_out,
    **others,
    "real": [(clip.video, trials.labels(clip)) for clip in real],
    "shuffled": shuffle_labels(seen + held_out, seed)[:count],
  }


def _generated(
  model: Lumiere,
  studio: Studio,
  split: str,
  real: Sequence[loader.LabelledClip],
  folder: str = "",
) -> Pairs:
  """A clip for the caption of each real one."""
  make = studio.maker(model, "text_to_video", split, len(real), folder)
  made = trials.of_captions(make, real)
  return list(zip(made, map(trials.labels, real), strict=True))


def _styled_data(config: Config, options: Options) -> dict[str, DataConfig]:
  """The data sets of the drawings in the style, and of those without it."""
  styled = dataclasses.replace(config.data, data_dir=options.style_data)
  return {options.style: styled, "original": config.data}


def _drawings(data: Mapping[str, DataConfig]) -> dict[str, dict[str, Strokes]]:
  """How each object is drawn in each style."""
  drawn: dict[str, dict[str, Strokes]] = {}
  for name, cfg in data.items():
    stills: dict[str, list[np.ndarray]] = {}
    for clip in loader.read_clips(cfg, "train", GALLERY_CLIPS):
      stills.setdefault(clip.emoji, []).append(clip.video[:1])
    drawn[name] = {emoji: strokes(clips) for emoji, clips in stills.items()}
  return drawn


def _style_rows(
  model: Lumiere,
  studio: Studio,
  real: Sequence[loader.LabelledClip],
  gallery: Gallery,
  options: Options,
) -> dict[str, Any]:
  """A row for each alpha, and one for real clips of each style."""
  data = _styled_data(studio.config, options)
  drawn = _drawings(data)
  style = options.style
  clips: dict[str, Pairs] = {}
  for alpha in ALPHAS:
    # What has no part of the style is what text alone makes.
    folder = f"{Path(style).name}_{alpha:g}" if alpha else ""
    styled = model.with_style(style, alpha) if alpha else model
    row = _generated(styled, studio, "held_out", real, folder)
    clips[f"{alpha:g}"] = row
  for name, cfg in data.items():
    clips[f"real {name}"] = [
      (clip.video, trials.labels(clip))
      for clip in loader.read_clips(cfg, "held_out", len(real))
    ]
  provenance = {
    "style_fingerprint": style_fingerprint(styled.config),
    "data_fingerprints": {n: loader.fingerprint(c) for n, c in data.items()},
    "distance": STYLE_PROTOCOL,
  }
  return {
    name: style_row(row, drawn, gallery, world.BACKGROUNDS) | provenance
    for name, row in clips.items()
  }


if __name__ == "__main__":
  cli.run(main)
