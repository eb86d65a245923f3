# SPDX-License-Identifier: Apache-2.0
"""Makes data sets: shards of clips, emoji_motion of sprites, or UCF-101.

python -m lumiere_jax.data.write --dataset=shards --src=VIDEOS --out=SHARDS
python -m lumiere_jax.data.write --config=demo32 --sprites=PACK --data_dir=DIR
python -m lumiere_jax.data.write --dataset=ucf101 --config=split1 \
  --videos=UCF-101 --data_dir=DIR

Shards are written by an Apache Beam pipeline, whose flags are taken too:
--direct_num_workers=2 --direct_running_mode=multi_processing uses two cores,
--runner=DataflowRunner and what that needs many machines. The same command
again goes on where it was stopped.
"""

import argparse
import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax import cli
from lumiere_jax.config import Config, SourceConfig
from lumiere_jax.config.data import KINDS, MEDIA
from lumiere_jax.data import pack, pipeline, shards
from lumiere_jax.data.beam import import_beam
from lumiere_jax.data.prepare import Job, Recipe
from lumiere_jax.encoders import text_encoder
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.inference.prompt import read_prompts
from lumiere_jax.text.store import write_store
from lumiere_jax.weights.shards import new_folder

DATASETS = ("emoji_motion", "ucf101", "shards")
ATTRIBUTION = Path(__file__).parents[1] / "assets" / "ATTRIBUTION.md"


def build(config: str, sprites: str | Path, data_dir: str | Path) -> Path:
  """Builds emoji_motion as ArrayRecord files; returns the folder.

  Raises:
    UserError: unknown config, or no sprite pack.
  """
  from lumiere_jax.data.emoji_motion import EmojiMotion

  _check_config(config, EmojiMotion)
  pack.read_index(sprites)
  folder = _prepare(EmojiMotion, config, sprites, data_dir)
  own = Path(sprites) / pack.ATTRIBUTION
  shutil.copy(own if own.is_file() else ATTRIBUTION, folder)
  return folder


def build_ucf101(config: str, videos: str | Path, data_dir: str | Path) -> Path:
  """Builds ucf101 as ArrayRecord files; returns the folder.

  Raises:
    UserError: unknown config, no such videos, or more than can be written
      without Apache Beam, which is not there.
  """
  from lumiere_jax.data.ucf101_builder import Ucf101

  _check_config(config, Ucf101)
  if not Path(videos).is_dir():
    raise UserError(f"--videos={str(videos)!r} is no folder")
  folder = _prepare(Ucf101, config, videos, data_dir)
  (folder / pack.ATTRIBUTION).write_text(
    "Videos of UCF-101 (Soomro, Zamir and Shah, arXiv 1212.0402), which users\n"
    "uploaded; the data set states no licence.\n"
  )
  return folder


def _check_config(config: str, builder: Any) -> None:
  names = [known.name for known in builder.BUILDER_CONFIGS]
  if config not in names:
    raise UserError(f"unknown --config={config}{nearest(config, names)}")


def _prepare(
  builder: Any, config: str, manual: str | Path, data_dir: str | Path
) -> Path:
  import tensorflow_datasets as tfds

  made = builder(
    config=config, data_dir=str(data_dir), file_format="array_record"
  )
  made.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=str(manual))
  )
  return Path(made.data_dir)


def write_shards(args: argparse.Namespace, rest: Sequence[str]) -> None:
  """Writes shards as the flags say, those in `rest` being Beam's.

  Raises:
    UserError: flags, source or text encoder are not as they must be.
  """
  if not args.src or not args.out:
    raise UserError("--dataset=shards needs --src=FOLDER and --out=FOLDER")
  if args.num_shards < 0:
    raise UserError(f"--num_shards={args.num_shards} must be >= 0")
  overrides = [flag for flag in rest if flag.startswith("--config.")]
  beam_flags = [flag for flag in rest if flag not in overrides]
  recipe = Recipe(
    **{f.name: getattr(args, f.name) for f in dataclasses.fields(Recipe)}
  )
  source = SourceConfig(
    kind=args.kind,
    data_dir=args.src,
    name=args.name,
    config=args.config or "demo32",
    split=args.split,
    captions=args.captions,
    media=args.media,
  )
  import_beam()
  with cli.output_folder("--out", args.out) as out:
    make_encoder = make_text = None
    if args.text_config:
      cfg = _text_config(args, overrides)
      make_encoder = functools.partial(text_encoder, cfg)
      make_text = functools.partial(_text_store, cfg, make_encoder, args, out)
    elif overrides:
      raise UserError(f"{overrides[0]} needs --text_config")
    job = Job(
      source=source,
      out=str(out),
      recipe=recipe,
      make_encoder=make_encoder,
      num_shards=args.num_shards,
    )
    report = pipeline.run(job, beam_flags, make_text)
  _say(report, out)


def _text_config(args: argparse.Namespace, overrides: Sequence[str]) -> Config:
  """The config that names the encoder, which a worker has little cache for."""
  parser = cli.Parser()
  _, fields = cli.parse(parser, overrides)
  fields |= cli.as_overrides(
    {
      "text.weights": args.text_encoder or None,
      "text.store": "",
      "text.cache_mb": 100,
    }
  )
  return cli.resolve(cli.read_config(args.text_config), fields)


def _text_store(
  cfg: Config,
  make_encoder: Callable[[], Any],
  args: argparse.Namespace,
  out: Path,
) -> dict[str, Any]:
  """Stores what training asks for beside captions; says what encodes them."""
  encoder = make_encoder()
  prompts = read_prompts([], args.prompts) if args.prompts else []
  prompts = [*prompts, *cfg.train.sample_prompts]
  shutil.rmtree(out / shards.TEXT, ignore_errors=True)
  with new_folder(out / shards.TEXT) as new:
    write_store(
      new,
      prompts,
      encoder,
      dataclasses.asdict(cfg.text),
      batch_size=cfg.text.batch_size,
    )
  names = ("encoder", "lower_case", "max_tokens")
  return {name: getattr(cfg.text, name) for name in names} | {
    "width": int(encoder.width)
  }


def _say(report: dict[str, Any], out: Path) -> None:
  dropped = sum(report["dropped"].values())
  reasons = ", ".join(f"{r}: {n}" for r, n in report["dropped"].items())
  print(
    f"{report['videos']} videos ({report['seconds']['total']:.0f} s) and "
    f"{report['images']} images in {report['shards']} shards, "
    f"{report['shards_written_now']} of them written now; {dropped} left out"
    f"{f' ({reasons})' if dropped else ''}: {out / shards.REPORT}"
  )


def _parser() -> cli.Parser:
  parser = cli.Parser(
    prog="lumiere_jax.data.write",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,  # Beam has flags that begin as ours.
  )
  add = parser.add_argument
  add("--dataset", default=DATASETS[0], choices=DATASETS)
  add("--config", help="builder config (emoji_motion: demo32; ucf101: split1)")
  add("--data_dir", default="data", help="folder a data set is built below")
  add("--sprites", help="emoji_motion: folder of the pack")
  add("--videos", help="ucf101: its folder of classes")
  group = parser.add_argument_group("shards")
  add = group.add_argument
  add("--src", help="folder of the source")
  add("--out", help="folder of the shards")
  kinds = [kind for kind in KINDS if kind != "sprites"]  # These have no files.
  add("--kind", default="folder", choices=kinds, help="what the source is")
  add("--captions", default="", help="folder: its CSV or JSONL file")
  add("--media", default="video", choices=MEDIA, help="folder: what is taken")
  add("--split", default="train", help="part of the source")
  add("--name", default="emoji_motion", help="built: which data set")
  add("--num_shards", type=int, default=0, help="0: by the number of items")
  add("--short_px", type=int, default=0, help="encode anew: shorter side")
  add("--fps", type=cli.number, default=0.0, help="encode anew: frames/s")
  add("--crf", type=int, default=18, help="encode anew: rate factor")
  add("--min_seconds", type=cli.number, default=0.0, help="leave out shorter")
  add("--text_config", help="configs/*.py whose encoder encodes captions")
  add("--text_encoder", help="its weights folder")
  add("--prompts", help="file of prompts to encode beside them")
  return parser


def main(argv: Sequence[str]) -> None:
  """Makes what the flags ask for."""
  args, rest = _parser().parse_known_args(argv)
  if args.dataset == "shards":
    write_shards(args, rest)
    return
  if rest:
    raise UserError(f"unknown argument {rest[0]!r}; --help lists them")
  builder, flag, default = {
    "emoji_motion": (build, "sprites", "demo32"),
    "ucf101": (build_ucf101, "videos", "split1"),
  }[args.dataset]
  if not getattr(args, flag):
    raise UserError(f"the following arguments are required: --{flag}")
  config = args.config or default
  print(f"built {builder(config, getattr(args, flag), args.data_dir)}")


if __name__ == "__main__":
  cli.run(main)
