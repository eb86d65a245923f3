# SPDX-License-Identifier: Apache-2.0
"""Measures a model: python -m lumiere_jax.evaluate --config=...

Makes clips for combinations of object, background and movement that training
saw and for held-out ones, and measures them beside real clips (the ceiling)
and beside the same clips under other clips' captions (the floor). The real
clips come from the data set, so --config.data.data_dir must hold it.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lumiere_jax import cli, media
from lumiere_jax.api import Lumiere, weights_config
from lumiere_jax.config import Config
from lumiere_jax.data import loader, world
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.report import (
  MIN_CLIPS,
  Labels,
  evaluate_rows,
  format_table,
  shuffle_labels,
)
from lumiere_jax.evaluation.retrieval import Gallery
from lumiere_jax.inference.prompt import Request

Pairs = list[tuple[np.ndarray, Labels]]

# Training clips whose frames are the gallery of retrieval.
GALLERY_CLIPS = 640


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(prog="lumiere_jax.evaluate", description=__doc__)
  parser.add_argument("--config", required=True, help="a configs/*.py file")
  parser.add_argument("--weights", help="other weights than the config's")
  parser.add_argument("--text_encoder", help="its weights folder")
  parser.add_argument(
    "--out", default="metrics.json", help="JSON file to write"
  )
  parser.add_argument(
    "--num_clips", type=int, default=MIN_CLIPS, help="of each row"
  )
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--clips",
    help="folder that keeps the generated clips: what lies there already "
    "is not made again, so an interrupted evaluation goes on",
  )
  parser.add_argument(
    "--allow_small", action="store_true", help=f"fewer than {MIN_CLIPS} clips"
  )
  args, overrides = cli.parse(parser, argv)
  file = cli.read_config(args.config)
  values = weights_config(args.weights or file.get("weights", ""), file)
  overrides |= cli.as_overrides({"text.weights": args.text_encoder or None})
  config = cli.resolve(values, overrides)
  if args.num_clips < MIN_CLIPS and not args.allow_small:
    raise UserError(
      f"--num_clips={args.num_clips} is less than {MIN_CLIPS}, too few for a "
      "figure to mean anything; --allow_small measures them all the same"
    )
  cli.check_seed(args.seed)
  # Before the hour of work, not after it.
  media.check_free(args.out)
  cli.enable_compilation_cache()
  with cli.output_folder("--out", str(Path(args.out).parent)):
    report = evaluate(config, args.num_clips, args.seed, args.clips)
  with media.new_file(args.out) as temporary:
    temporary.write_text(json.dumps(report, indent=2) + "\n")
  print(format_table(report))
  print(args.out)


def evaluate(
  config: Config, num_clips: int, seed: int, clips_dir: str | None
) -> dict[str, object]:
  """The report of a model; see `evaluation.report.evaluate_rows`.

  Args:
    config: names the weights and where the data set lies.
    num_clips: clips in each row.
    seed: of the generated clips and of the shuffled captions.
    clips_dir: keeps the generated clips, if given.
  """
  real = list(loader.read_clips(config.data, "held_out", num_clips))
  model = Lumiere.from_config(config)
  gallery = Gallery(
    (clip.video, clip.emoji)
    for clip in loader.read_clips(config.data, "train", GALLERY_CLIPS)
  )
  missing = sorted({clip.emoji for clip in real} - set(gallery.objects))
  if missing:  # Before the clips are made, not after.
    raise UserError(
      f"the gallery of {GALLERY_CLIPS} training clips shows no {missing[0]!r} "
      f"and {len(missing) - 1} other objects of the held-out split"
    )
  made_with = {
    "weights_fingerprint": model.info.fingerprint,
    "data_fingerprint": loader.fingerprint(config.data),
    "seed": seed,
    "sampler": dataclasses.asdict(config.sampler),
  }
  if clips_dir:
    _claim(Path(clips_dir), made_with)
  seen, held_out = (
    list(_generated(model, config, split, num_clips, seed, clips_dir))
    for split in ("train", "held_out")
  )
  rows = {
    "seen": seen,
    "held_out": held_out,
    "real": [(clip.video, _labels(clip)) for clip in real],
    "shuffled": shuffle_labels(seen + held_out, seed)[:num_clips],
  }
  report = evaluate_rows(rows, gallery, world.BACKGROUNDS, allow_small=True)
  report["protocol"].update(made_with)
  report["protocol"]["gallery_clips"] = GALLERY_CLIPS
  return report


def _claim(clips_dir: Path, made_with: Mapping[str, Any]) -> None:
  """Notes what the clips of a folder are made with.

  Raises:
    UserError: those that lie there are made with something else.
  """
  note = clips_dir / "made_with.json"
  if note.is_file():
    saved = json.loads(note.read_text())
    for name, value in made_with.items():
      if saved.get(name) != value:
        raise UserError(
          f"the clips in --clips={clips_dir} are made with "
          f"{name}={saved.get(name)!r}, not {value!r}"
        )
    return
  with media.new_file(note) as temporary:
    temporary.write_text(json.dumps(made_with, indent=2) + "\n")


def _labels(clip: loader.LabelledClip) -> Labels:
  return Labels(clip.emoji, clip.background, clip.movement)


def _generated(
  model: Lumiere,
  config: Config,
  split: str,
  num_clips: int,
  seed: int,
  clips_dir: str | None,
) -> Iterator[tuple[np.ndarray, Labels]]:
  """A clip for each of the first captions of a split."""
  wanted = loader.read_clips(config.data, split, num_clips)
  bar = tqdm(wanted, total=num_clips, desc=split, file=sys.stderr)
  for i, real in enumerate(bar):
    # Every clip has noise of its own, so that rows average over it.
    request = Request(real.caption, i)
    path = clips_dir and Path(clips_dir) / f"{split}-{i:05d}.npy"
    if path and path.is_file():
      clip = np.load(path)
    else:
      clip = model.run([request], seed=seed)[0]
      if path:
        media.save_npy(path, clip)
    yield clip, _labels(real)


if __name__ == "__main__":
  cli.run(main)
