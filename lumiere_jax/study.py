# SPDX-License-Identifier: Apache-2.0
"""Which of two methods people prefer:
python -m lumiere_jax.study build --a=DIR --b=DIR --out=DIR

build    a page of pairs of clips, those of the same name in both folders: sides
         at random, some pairs of a clip beside itself spoilt, a list of its own
         for every rater. The page works from a disk and knows no names; the key
         to it is written beside the folder.
analyse  the raters' files (--answers) with the key: preference by question, its
         interval, how many votes would tell smaller ones.
"""

import argparse
import contextlib
import dataclasses
import json
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax import cli, media
from lumiere_jax.errors import UserError
from lumiere_jax.plotting import check_matplotlib
from lumiere_jax.scoring import canaries
from lumiere_jax.survey import page
from lumiere_jax.survey.plot import draw_preferences
from lumiere_jax.survey.preference import Vote, power_table, preference

WHATS = ("build", "analyse")


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  args = _parser().parse_args(argv)
  {"build": _build, "analyse": _analyse}[args.what](args)


def _parser() -> cli.Parser:
  parser = cli.Parser(
    prog="lumiere_jax.study",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("what", choices=WHATS)
  add("--a", help="folder of the first method's clips")
  add("--b", help="folder of the second method's")
  add("--out", help="folder of the page, or JSON file of the analysis")
  add("--key", help="JSON file of the key; OUT.key.json if not given")
  add("--raters", type=int, default=20, help="lists to make")
  add("--each", type=int, default=0, help="pairs of a list; 0 is all")
  add("--checks", type=int, default=2, help="vigilance items of a list")
  add("--question", action="append", help="NAME=WORDS, instead of both")
  add("--seed", type=int, default=0)
  add("--answers", nargs="+", help="files that raters have saved")
  add(
    "--most_failed",
    type=cli.number,
    default=0.2,
    help="share of failed checks above which a rater is left out",
  )
  add("--plot", help="PNG to draw")
  return parser


def _needed(args: argparse.Namespace, *names: str) -> None:
  for name in names:
    if not getattr(args, name):
      raise UserError(f"{args.what} needs --{name}")


def _build(args: argparse.Namespace) -> None:
  """Writes the page and its key."""
  _needed(args, "a", "b", "out")
  pairs = page.find_pairs(Path(args.a), Path(args.b))
  key_path = args.key or f"{args.out.rstrip('/')}.key.json"
  media.check_free(key_path)
  seed = cli.check_seed(args.seed)
  with cli.output_folder("--out", args.out) as out, _whole(out) as new:
    plan = page.Plan(
      raters=args.raters,
      each=args.each or len(pairs),
      checks=args.checks,
      methods=(args.a, args.b),
      questions=_questions(args.question),
      seed=seed,
      salt=secrets.token_hex(8),
    )
    key = page.build(
      pairs, new, plan, lambda clip, number: _spoilt(clip, seed, number)
    )
    media.write_json(key_path, key)
  print(
    f"{len(pairs)} pairs, {args.raters} lists of {args.each or len(pairs)} and "
    f"{args.checks} checks: {Path(args.out) / 'index.html'}, key {key_path}"
  )


@contextlib.contextmanager
def _whole(out: Path) -> Iterator[Path]:
  """A folder, what is in which at the end comes to lie in `out`.

  Raises:
    UserError: something else lies there.
  """
  if any(out.iterdir()):
    raise UserError(f"--out={out} is not empty")
  with tempfile.TemporaryDirectory(prefix=".", dir=out) as new:
    yield Path(new)
    for path in Path(new).iterdir():
      path.rename(out / path.name)


def _spoilt(clip: page.Clip, seed: int, number: int) -> page.Clip:
  """What nobody who looks prefers."""
  shuffled = canaries.spoil("shuffled", clip, seed, number)
  for turn in range(3):
    shuffled = canaries.spoil("noised", shuffled, seed + turn, number)
  return shuffled


def _questions(given: Sequence[str] | None) -> dict[str, str]:
  if not given:
    return page.QUESTIONS
  pairs = [text.partition("=") for text in given]
  for name, _, words in pairs:
    if not name or not words:
      raise UserError(f"--question={name!r} must be NAME=WORDS")
  return {name: words for name, _, words in pairs}


def _analyse(args: argparse.Namespace) -> None:
  """Prints the preferences."""
  _needed(args, "key", "answers")
  if args.plot:
    check_matplotlib()
    media.check_free(args.plot)
  if args.out:
    media.check_free(args.out)
  key = _read_key(args.key)
  given, failed = page.read_votes(key, [Path(name) for name in args.answers])
  left_out = sorted(
    r for r, share in failed.items() if share > args.most_failed
  )
  votes = [Vote(**vote) for vote in given if vote["rater"] not in left_out]
  if not votes:
    raise UserError(
      f"no votes are left of {len(failed)} raters, {len(left_out)} of whom "
      "failed checks"
    )
  result: dict[str, Any] = {
    "methods": key["methods"],
    "raters": len(failed),
    "left_out": {rater: failed[rater] for rater in left_out},
    "questions": {},
  }
  for name in key["questions"]:
    asked = [vote for vote in votes if vote.question == name]
    if asked:
      found = preference(asked)
      result["questions"][name] = {
        **dataclasses.asdict(found),
        "decided": found.decided,
        "votes_needed": power_table(design_effect=found.design_effect),
      }
  print(_as_text(result))
  if args.out:
    media.write_json(args.out, result)
  if args.plot:
    with media.new_file(args.plot) as path:
      draw_preferences(result, path)


def _read_key(path: str) -> dict[str, Any]:
  try:
    key = json.loads(Path(path).read_text(encoding="utf-8"))
    key["items"], key["questions"], key["study"], key["methods"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"--key={path} is no key of a study: {error!r}") from None
  return key


def _as_text(result: dict[str, Any]) -> str:
  first, second = result["methods"]
  lines = [
    f"{first} against {second}: {result['raters']} raters, "
    f"{len(result['left_out'])} left out for failed checks"
  ]
  for name, found in result["questions"].items():
    verdict = "" if found["decided"] else ", undecided"
    lines.append(
      f"{name}: {first} preferred in {found['share']:.1%} "
      f"({found['low']:.1%} to {found['high']:.1%}{verdict}) of "
      f"{found['votes']} votes of {found['raters']} raters on "
      f"{found['prompts']} prompts"
    )
    needed = ", ".join(
      f"{share:.0%}: {votes}" for share, votes in found["votes_needed"].items()
    )
    lines.append(f"  votes that would tell a preference of {needed}")
  return "\n".join(lines)


if __name__ == "__main__":
  cli.run(main)
