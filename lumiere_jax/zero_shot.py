# SPDX-License-Identifier: Apache-2.0
"""The zero-shot protocol of UCF-101, in one command:
python -m lumiere_jax.zero_shot --config=configs/ucf101_eval.py

Makes clips for the classes' prompts, scores their first frames beside real
clips (FVD in I3D's features, Inception Score of C3D's classes), and prints the
published numbers of others beside the result. What is made is kept feature by
feature in protocol.work: the same command again goes on where it was stopped,
and several processes at once (launch/) share the work.
"""

import argparse
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax import cli, media
from lumiere_jax.api import Lumiere
from lumiere_jax.config import Config
from lumiere_jax.errors import UserError
from lumiere_jax.extractors import KINDS, Extractor, load
from lumiere_jax.gathering import Generated, Real, Share, canary_key, cut_of
from lumiere_jax.linked import weights_config
from lumiere_jax.scores import Folder
from lumiere_jax.scoring import canaries, zero_shot
from lumiere_jax.scoring.enough import (
  SPLITS,
  check_enough,
  check_splits,
  lacking,
)
from lumiere_jax.scoring.protocol import Protocol, ProtocolFile
from lumiere_jax.scoring.table import (
  Rows,
  Source,
  format_left_out,
  format_rows,
  frechet_rows,
  inception_row,
  mixed,
  rows_beside,
)

CLASSES = 101
NOT_OURS = "other people's measurements, not measured here"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """What the command says beside the configuration.

  Attributes:
    rounds: of the bootstrap.
    allow_small: whether too few clips are scored too.
  """

  rounds: int
  allow_small: bool


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  args, overrides = cli.parse(_parser(), argv)
  protocol, config = _read(args, overrides)
  if args.rounds < 20:
    raise UserError(f"--rounds={args.rounds} must be >= 20")
  # Before days of work, not after them.
  media.check_free(args.out)
  cli.join_processes()
  cli.enable_compilation_cache()
  options = Options(rounds=args.rounds, allow_small=args.allow_small)
  share = Share.mine()
  with (
    cli.output_folder("--out", str(Path(args.out).parent)),
    cli.output_folder("--config.protocol.work", protocol.work),
  ):
    networks = _networks(protocol)
    generated, real = _gathered(config, protocol, networks, share, options)
    if share.index == 0:
      result = _result(protocol, config, networks, generated, real, options)
      media.write_json(args.out, result)
      print(format_result(result))
      print(args.out)
    # Whoever leaves earlier is missed after some minutes.
    share.meet("scored")


def _parser() -> argparse.ArgumentParser:
  parser = cli.Parser(prog="lumiere_jax.zero_shot", description=__doc__)
  add = parser.add_argument
  add("--config", required=True, help="configs/ucf101_eval.py, or one like it")
  add("--weights", help="other weights than the config's")
  add("--text_encoder", help="its weights folder")
  add("--out", default="ucf101_eval.json", help="JSON file to write")
  add("--rounds", type=int, default=200, help="of the bootstrap")
  add("--allow_small", action="store_true", help="score too few clips too")
  return parser


def _read(
  args: argparse.Namespace, overrides: Mapping[str, str]
) -> tuple[Protocol, Config]:
  """The two parts of a config file, with what the command line changes.

  Raises:
    UserError: the file has no protocol, or one part cannot be followed.
  """
  file = cli.read_config(args.config)
  if "protocol" not in file:
    raise UserError(
      f"{args.config} has no protocol: it says how to train or sample, not how "
      "to evaluate, as configs/ucf101_eval.py does"
    )
  own = {"protocol": file.pop("protocol")}
  ours = {k: v for k, v in overrides.items() if k.split(".")[0] == "protocol"}
  protocol = cli.resolve(own, ours, ProtocolFile).protocol
  protocol.check_complete()
  values = weights_config(args.weights or file.get("weights", ""), file)
  others = {k: v for k, v in overrides.items() if k not in ours}
  others |= cli.as_overrides({"text.weights": args.text_encoder or None})
  config = cli.resolve(values, others)
  if protocol.frames > config.data.num_frames:
    raise UserError(
      f"protocol.frames={protocol.frames} are more than the "
      f"{config.data.num_frames} of a clip of {config.weights!r}"
    )
  return protocol, config


def _networks(protocol: Protocol) -> dict[str, Extractor]:
  """The networks that a protocol names, by its fields.

  Raises:
    UserError: one is not there, is of another kind, or sees clips of another
      length.
  """
  found = {}
  for field in ("i3d", "c3d"):
    path = getattr(protocol, field)
    if not path:
      continue
    found[field] = network = load(path)
    if field == "c3d" and network.kind != "c3d":
      raise UserError(
        f"protocol.c3d={path!r} holds {network.kind!r}; the Inception Score "
        f"needs 'c3d', protocol.i3d takes any of {', '.join(KINDS)}"
      )
    try:
      network.check_frames(protocol.frames)
    except UserError as error:
      raise UserError(
        f"protocol.frames={protocol.frames} with protocol.{field}={path!r}: "
        f"{error}"
      ) from error
  if "c3d" in found and (count := found["c3d"].dimensions) != CLASSES:
    raise UserError(
      f"protocol.c3d={protocol.c3d!r} knows {count} classes; the Inception "
      f"Score is over UCF-101's {CLASSES}: C3D must be trained on it"
    )
  return found


def _gathered(
  config: Config,
  protocol: Protocol,
  networks: Mapping[str, Extractor],
  share: Share,
  options: Options,
) -> tuple[Generated, Real | None]:
  """All features: those that were kept, and those that this run makes.

  Raises:
    UserError: there are too few clips, or other ones are kept.
  """
  folder = real = None
  if networks and protocol.real:
    folder = Folder(protocol.real, cut_of(protocol))
  _check_enough(protocol, networks, len(folder.files) if folder else 0, options)
  generated = Generated(Lumiere.from_config(config), protocol, networks)
  if folder:
    real = Real(folder, protocol, networks)
  generated.make(share)
  if real:
    real.read(share)
  share.meet("gathered")
  if real:
    real.spoil(share)
  share.meet("spoilt")
  if share.index == 0 and share.count > 1:
    # Nothing is left to make, but who could not read a clip told only itself.
    generated.make(Share(0, 1))
    if real:
      real.read(Share(0, 1))
  return generated, real


def _check_enough(
  protocol: Protocol,
  networks: Mapping[str, Extractor],
  real: int,
  options: Options,
) -> None:
  """Raises UserError if so few clips make no score, or none to trust."""
  if "i3d" in networks:
    check_enough(
      real,
      protocol.clips,
      networks["i3d"].dimensions,
      allow_small=options.allow_small,
    )
  if "c3d" in networks:
    check_splits(
      protocol.clips,
      CLASSES,
      allow_small=options.allow_small,
      what=f"protocol.clips={protocol.clips}",
    )


def _result(
  protocol: Protocol,
  config: Config,
  networks: Mapping[str, Extractor],
  generated: Generated,
  real: Real | None,
  options: Options,
) -> dict[str, Any]:
  """All scores, with how they were measured and what others have published."""
  rows: Rows = {"generated": []}
  missing = {}
  if "i3d" in networks:
    try:
      count = len(real.keys)
      check_enough(count, len(generated.keys), 0, allow_small=True)
    except UserError as error:
      first = next(iter(real.left_out.values()), "")
      raise UserError(
        f"{error}; {len(real.left_out)} of {len(real.files)} files could not "
        f"be read, the first: {first}"
      ) from None
    source = _source(protocol, config, networks["i3d"], real)
    rows = _distances(source, real, generated, options)
    missing |= lacking(
      source.name(kernel=False),
      count,
      len(generated.keys),
      networks["i3d"].dimensions,
      allow_small=options.allow_small,
    )
  else:
    missing["FVD"] = "protocol.i3d is empty"
  if "c3d" in networks:
    source = _source(protocol, config, networks["c3d"], real)
    logits = generated.stores["c3d"].stacked(generated.keys)
    rows["generated"].append(inception_row(source, logits))
    if real and len(real.keys) >= SPLITS:
      logits = real.stores["c3d"].stacked(real.keys)
      logits = mixed(logits, protocol.seed)
      row = inception_row(source, logits, real=True)
      rows.setdefault("real", []).append(row)
    else:
      count = len(real.keys) if real else 0
      missing["IS of real clips"] = f"{count} clips for {SPLITS} parts"
  else:
    missing["IS"] = "protocol.c3d is empty"
  return {
    "protocol": dataclasses.asdict(protocol),
    "weights": config.weights,
    "made_with": generated.made_with,
    "clips": {"made": len(generated.keys), "of": zero_shot.CLIPS},
    "rows": rows,
    "left_out": {"scores": missing, "real": real.left_out if real else {}},
    "departures": protocol.departures
    + [
      f"{networks[field].kind} in place of {field}"
      for field in networks
      if networks[field].kind != field
    ],
    "published": {
      "note": NOT_OURS,
      "rows": {
        name: {"FVD": fvd, "IS": score}
        for name, (fvd, score) in zero_shot.PUBLISHED.items()
      },
    },
  }


def _distances(
  source: Source, real: Real, generated: Generated, options: Options
) -> Rows:
  """The distance of generated clips, the floor, and those of canaries."""
  keys = real.keys
  spoilt = {
    canary: real.spoilt["i3d"].stacked(
      canary_key(canary, name) for name in keys[1::2]
    )
    for canary in canaries.CANARIES
  }
  return rows_beside(
    functools.partial(
      frechet_rows,
      source,
      allow_small=options.allow_small,
      rounds=options.rounds,
    ),
    real.stores["i3d"].stacked(keys),
    generated.stores["i3d"].stacked(generated.keys),
    spoilt,
  )


def _source(
  protocol: Protocol, config: Config, network: Extractor, real: Real | None
) -> Source:
  """What the cards of a network's scores share."""
  reference = protocol.reference
  if real:
    reference = f"{reference}, files {real.fingerprint[:16]}"
  cut = cut_of(protocol)
  rate = f"at {protocol.real_fps:g} a second" if protocol.real_fps else "as is"
  return Source(
    title=network.known.title,
    network=network.kind,
    network_sha256=network.fingerprint,
    resize=network.resize,
    frames=protocol.frames,
    fps=float(config.data.fps),
    stride=cut.stride,
    clip_rule=f"{cut.rule}; real clips {rate}",
    reference=reference,
    seed=protocol.seed,
  )


def format_result(result: Mapping[str, Any]) -> str:
  """Scores with the hashes of their cards, above those that others tell."""
  clips, left_out = result["clips"], result["left_out"]
  lines = [
    f"{clips['made']:,} clips were made; the protocol has {clips['of']:,}",
    format_rows(result["rows"]),
  ]
  lines += format_left_out(left_out)
  if result["departures"]:
    lines.append(f"not as published: {'; '.join(result['departures'])}")
  lines += ["", f"published: {result['published']['note']}"]
  lines.append(f"{'model':<16} {'FVD':>8} {'IS':>8}")
  for name, row in result["published"]["rows"].items():
    told = "-" if row["IS"] is None else f"{row['IS']:.2f}"
    lines.append(f"{name:<16} {row['FVD']:>8.2f} {told:>8}")
  return "\n".join(lines)


if __name__ == "__main__":
  cli.run(main)
