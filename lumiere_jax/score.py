# SPDX-License-Identifier: Apache-2.0
"""Scores clips of files: python -m lumiere_jax.score --generated=DIR ...

--generated alone     measures that need no network, of pixels
--real=DIR            real clips: the same of them, and of them frozen,
                      shuffled, reversed and noised, which tells what a score
                      does not see
--network=DIR         a network that import_weights wrote; may be repeated:
                      i3d for FVD and KVD, videomae, efficientnet-lite0 and
                      transnetv2 for distances of their own names (all against
                      --real), c3d for the Inception score, clip for the CLIP
                      score and the consistency of frames
--xt_slice=PNG        a picture: one row of pixels over time, of generated
                      clips above real ones

Each score has a protocol card, whose hash is printed beside it.
--compare=A.json,B.json puts two results side by side, and refuses those of
different cards unless --force is given.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from lumiere_jax import cli, measuring, media, meters
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.plain import LEAST_FRAMES
from lumiere_jax.scores import Clip, Cut, Folder
from lumiere_jax.scoring.card import Card, check_comparable
from lumiere_jax.scoring.slices import xt_slice
from lumiere_jax.scoring.table import (
  Rows,
  Source,
  format_left_out,
  format_rows,
)
from lumiere_jax.shapes import UInt8

_SLICES = 4  # Clips of each kind on a picture.
_SLICE_PX = 240  # Least width of each.


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  args = _parser().parse_args(argv)
  if args.compare:
    _compare(args.compare, args.force)
    return
  if not args.generated:
    raise UserError("--generated is needed: a folder of clips, or a clip")
  if args.rounds < 20:
    raise UserError(f"--rounds={args.rounds} must be >= 20")
  for path in filter(None, (args.out, args.xt_slice)):
    media.check_free(path)
  if args.xt_slice and not args.xt_slice.endswith(".png"):
    raise UserError(f"--xt_slice={args.xt_slice!r} must end in .png")
  cut = Cut(frames=args.frames, fps=args.fps, stride=args.stride)
  generated = Folder(args.generated, cut)
  real = Folder(args.real, cut) if args.real else None
  if args.xt_slice:
    _draw_slices(args.xt_slice, args.row, generated, real)
    print(args.xt_slice)
    if not args.out and not args.network:
      for line in format_left_out(_left_out(generated, real)):
        print(line)
      return
  result = _score(args, cut, generated, real)
  lines = [format_rows(result["rows"]), *format_left_out(result["left_out"])]
  print(*lines, sep="\n")
  if args.out:
    media.write_json(args.out, result)


def _left_out(
  generated: Folder, real: Folder | None
) -> dict[str, dict[str, str]]:
  """Why clips are in no score."""
  return {
    "real": real.left_out if real else {},
    "generated": generated.left_out,
  }


def _parser() -> cli.Parser:
  parser = cli.Parser(
    prog="lumiere_jax.score",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--generated", help="folder of generated clips, or one")
  add("--real", help="folder of real clips, or one")
  add("--network", action="append", default=[], help="may be repeated")
  add("--reference", help="name of the real clips; their folder's if not given")
  add("--frames", type=int, default=16, help="of each clip")
  add(
    "--fps",
    type=cli.number,
    default=0,
    help="to bring clips to; 0 keeps theirs",
  )
  add("--stride", type=int, default=1, help="take every which-th frame")
  add("--seed", type=int, default=0)
  add("--rounds", type=int, default=200, help="of the bootstrap")
  add("--allow_small", action="store_true", help="score too few clips too")
  add("--xt_slice", help="PNG to write")
  add("--row", type=int, help="of pixels in it; the middle one if not given")
  add("--out", help="JSON file to write")
  add("--compare", help="two results, A.json,B.json, instead")
  add("--force", action="store_true", help="compare whatever the cards are")
  return parser


def _score(
  args: argparse.Namespace, cut: Cut, generated: Folder, real: Folder | None
) -> dict[str, Any]:
  """All rows, and what was left out.

  Raises:
    UserError: of clips, networks or their numbers.
  """
  used, missing = list(map(measuring.load, args.network)), {}
  if cut.frames >= LEAST_FRAMES:
    used.insert(0, measuring.pixels(cut.stride))
  elif used:
    needed = f"--frames={cut.frames} are fewer than {LEAST_FRAMES}"
    missing["what needs no network"] = needed
  else:
    raise UserError(
      f"--frames={cut.frames}: what needs no network needs {LEAST_FRAMES}"
    )
  clips = Source(
    frames=cut.frames,
    fps=0.0,  # Until they are read, as is which the real ones are.
    stride=cut.stride,
    clip_rule=cut.rule,
    reference="",
    seed=cli.check_seed(args.seed),
  )
  setting = meters.Setting(
    clips=clips, rounds=args.rounds, allow_small=args.allow_small
  )
  for meter in used:
    meter.check(real and len(real), len(generated), setting)
  first = next(iter(generated))
  cli.enable_compilation_cache()
  with (
    contextlib.closing(_shown(real, "real", first)) as of_real,
    contextlib.closing(_shown(generated, "generated", first)) as of_made,
  ):
    sets = measuring.read_sets(used, real and of_real, of_made, clips.seed)
  clips = dataclasses.replace(
    clips, fps=float(_nominal(first.fps)), reference=_reference(args, real)
  )
  setting = dataclasses.replace(setting, clips=clips)
  rows: Rows = {}
  for meter, found in zip(used, sets, strict=True):
    for name, scores in meter.rows(found, setting).items():
      rows.setdefault(name, []).extend(scores)
    missing |= meter.lacking(found, setting)
  return {
    "rows": rows,
    "left_out": {**_left_out(generated, real), "scores": missing},
  }


def _reference(args: argparse.Namespace, real: Folder | None) -> str:
  """What cards call the real clips: a name, and which files they are."""
  if real is None:
    return ""
  name = args.reference or real.path.name
  return f"{name}, sha256 {real.fingerprint[:16]}"


def _shown(
  clips: Folder | None, name: str, first: Clip
) -> Generator[Clip, None, None]:
  """Clips, with a bar that begins with the first and ends with the last.

  Raises:
    UserError: one is of another frame rate than the first of the generated
      ones, so that a score would be of speed too.
  """
  with tqdm(clips, desc=name, file=sys.stderr) as bar:
    for clip in bar:
      if _nominal(clip.fps) != _nominal(first.fps):
        raise UserError(
          f"{clip.name} has {_nominal(clip.fps):g} frames a second, "
          f"{first.name} {_nominal(first.fps):g}: --fps brings all to one rate"
        )
      yield clip


def _nominal(rate: float | int) -> float | int:
  """The whole number that a rate is meant to be, if it is near one.

  Files tell the times of frames in units of their own, animated images in
  milliseconds: 16 frames a second are some 16.1 in a short one.
  """
  whole = round(rate)
  return whole if abs(rate - whole) <= 0.01 * rate else round(rate, 2)


def _draw_slices(
  path: str, row: int | None, generated: Folder, real: Folder | None
) -> None:
  """Draws the first clips of both, generated ones above real ones.

  Raises:
    UserError: none can be read, or one has no such row.
  """
  found = {}
  for name, folder in (("generated", generated), ("real", real)):
    if folder is None:
      continue
    clips = list(itertools.islice(folder, _SLICES))
    caption = f"{name}: {', '.join(clip.name for clip in clips)}"
    found[caption] = [xt_slice(clip.pixels, row) for clip in clips]
  drawn = [part for parts in found.values() for part in parts]
  width = max(_SLICE_PX, *(part.shape[1] for part in drawn))
  # All as wide as the widest; an instant is as high as a pixel of that is wide.
  height = round(len(drawn[0]) * width / max(p.shape[1] for p in drawn))
  sheets = {
    caption: np.stack([_enlarged(part, width, height) for part in parts])
    for caption, parts in found.items()
  }
  columns = max(len(parts) for parts in sheets.values())
  sheet = media.contact_sheet_many(sheets, columns)
  media.write_png(path, sheet)


def _enlarged(
  part: UInt8[np.ndarray, "t w 3"], width: int, height: int
) -> UInt8[np.ndarray, "height width 3"]:
  image = Image.fromarray(part).resize(
    (width, height), Image.Resampling.NEAREST
  )
  return np.asarray(image)


def _compare(names: str, force: bool) -> None:
  """Prints the scores of two results side by side.

  Raises:
    UserError: not two results, or of other cards.
  """
  paths = names.split(",")
  if len(paths) != 2:
    raise UserError(f"--compare={names!r} must be two files: A,B")
  one, other = (_generated(path) for path in paths)
  shared = [name for name in one if name in other]
  if not shared:
    raise UserError(f"{names}: no score is in both")
  lines = []
  for name in shared:
    cards = [Card.from_dict(result[name]["card"]) for result in (one, other)]
    if not force:
      check_comparable(*cards)
    told = " and ".join(dict.fromkeys(card.hash for card in cards))
    values = [result[name]["value"] for result in (one, other)]
    lines.append(
      f"{name:<19} {values[0]:>10.4g} {values[1]:>10.4g}  card {told}"
    )
  print("\n".join(lines))


def _generated(path: str) -> dict[str, dict[str, Any]]:
  """The scores of the generated clips of a result, by name.

  Raises:
    UserError: it is none.
  """
  try:
    result = json.loads(Path(path).read_text(encoding="utf-8"))
    rows = {row["card"]["score"]: row for row in result["rows"]["generated"]}
    for row in rows.values():
      row["value"] = float(row["value"])
    return rows
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path} holds no scores: {error!r}") from None


if __name__ == "__main__":
  cli.run(main)
