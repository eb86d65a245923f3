# SPDX-License-Identifier: Apache-2.0
"""A static page that shows pairs of clips, and the key to what it shows.

The page has no names of methods or of files in it, and nothing is fetched: it
works from a disk. The key stays with whoever asks.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax import media
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import UInt8
from lumiere_jax.survey.design import assign

Clip = UInt8[np.ndarray, "t h w 3"]

TEMPLATE = Path(__file__).resolve().parent.parent / "assets" / "study.html"
QUESTIONS = {
  "quality": "Which clip looks better, in its frames and its movement?",
  "text": "Which clip fits the words better?",
}
_VIDEOS = (".webp", *media.VIDEOS)  # Arrays tell no rate.
_LEAST_PX = 256  # Smaller clips are shown enlarged by whole pixels.


def find_pairs(a: Path, b: Path) -> dict[str, tuple[Path, Path]]:
  """Clips of the same name in two folders.

  Raises:
    UserError: no such folder, or no clip is in both.
  """
  found = [_clips(folder) for folder in (a, b)]
  names = sorted(found[0].keys() & found[1].keys())
  if not names:
    raise UserError(
      f"no clip is in both {a} and {b}: names must be equal but for "
      f"{', '.join(_VIDEOS)}"
    )
  return {name: (found[0][name], found[1][name]) for name in names}


def _clips(folder: Path) -> dict[str, Path]:
  if not folder.is_dir():
    raise UserError(f"{folder} is no folder of clips")
  files = (f for f in folder.iterdir() if f.suffix.lower() in _VIDEOS)
  return {file.stem: file for file in media.clips_among(files)}


def prompt_of(name: str, path: Path) -> str:
  """What a clip was made for: as told beside it, or else by its name.

  Raises:
    UserError: what lies beside it cannot be read.
  """
  sample = re.sub(r"-\d+$", "", name)
  return media.read_caption(path) or re.sub(r"[-_]+", " ", sample)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """What a study asks, and whom.

  Attributes:
    raters: how many lists there are.
    each: pairs of a list.
    checks: vigilance items of a list: a clip beside itself spoilt.
    methods: names of both.
    questions: words by name.
    seed: of all that is random.
    salt: goes into all names, so that who knows files and seed cannot tell
      them; kept in the key.
  """

  raters: int
  each: int
  checks: int
  methods: tuple[str, str]
  questions: Mapping[str, str]
  seed: int = 0
  salt: str


def build(
  pairs: Mapping[str, tuple[Path, Path]],
  out: Path,
  plan: Plan,
  spoil: Callable[[Clip, int], Clip],
) -> dict[str, Any]:
  """Writes index.html and clips/ into a folder, and returns the key.

  Args:
    pairs: files of both methods, by name.
    out: a folder that is there and empty.
    plan: what is asked.
    spoil: (clip, number) -> the spoilt clip.

  Raises:
    UserError: a clip cannot be read, or lists cannot be made.
  """
  salt, questions = plan.salt, dict(plan.questions)
  names = sorted(pairs)
  lists = assign(len(names), plan.raters, plan.each, plan.checks, plan.seed)
  folder = out / "clips"
  folder.mkdir()
  writer = _Writer(folder, salt)
  key: dict[str, Any] = {
    "salt": salt,
    "methods": list(plan.methods),
    "questions": questions,
    "items": {},
  }
  shown = []
  for number, showings in enumerate(lists):
    rows = []
    for place, showing in enumerate(showings):
      name = names[showing.pair]
      files = pairs[name]
      prompt = prompt_of(name, files[0])
      if showing.vigilance:
        # Either method's clip, so that checks do not tell them apart.
        clean = files[(number + place) % 2]
        sides = [writer.clip(clean), writer.clip(clean, spoil)]
      else:
        sides = [writer.clip(file) for file in files]
      if showing.swapped:
        sides.reverse()
      item = _blind(salt, number, place)
      key["items"][item] = {
        "name": name,
        "prompt": prompt,
        "swapped": showing.swapped,
        "vigilance": showing.vigilance,
      }
      rows.append(
        {"id": item, "prompt": prompt, "left": sides[0], "right": sides[1]}
      )
    shown.append(rows)
  study = {
    "id": _blind(salt, "study", json.dumps(shown, sort_keys=True)),
    "questions": [{"name": k, "words": v} for k, v in questions.items()],
    "lists": shown,
  }
  key["study"] = study["id"]
  text = json.dumps(study).replace("<", "\\u003c")  # It stands in a script.
  page = TEMPLATE.read_text(encoding="utf-8").replace("/*STUDY*/", text)
  (out / "index.html").write_text(page, encoding="utf-8")
  return key


class _Writer:
  """Writes each clip once, under a name that tells nothing.

  All are encoded alike, so that neither does the file.
  """

  def __init__(self, folder: Path, salt: str):
    self._folder, self._salt = folder, salt
    self._names: dict[tuple[Path, bool], str] = {}

  def clip(
    self, path: Path, spoil: Callable[[Clip, int], Clip] | None = None
  ) -> str:
    """The name of a file's clip, as it is or spoilt."""
    asked = (path, spoil is not None)
    if asked not in self._names:
      footage = media.read_video(path)
      clip = footage.clip
      if spoil:
        clip = spoil(clip, len(self._names))
      # H.264 stores colour at half the resolution.
      clip = clip[:, : clip.shape[1] // 2 * 2, : clip.shape[2] // 2 * 2]
      name = f"{_blind(self._salt, *map(str, asked))}.mp4"
      scale = max(1, -(-_LEAST_PX // min(clip.shape[1:3])))
      media.write_mp4(self._folder / name, clip, footage.fps, scale)
      self._names[asked] = name
    return self._names[asked]


def _blind(*parts: Any) -> str:
  """A name that the parts cannot be read off."""
  text = "\n".join(map(str, parts))
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_votes(
  key: Mapping[str, Any], files: Sequence[Path]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
  """All answers in the key's terms, and each rater's share of failed checks.

  Returns:
    Answers as rater, prompt, question, first (method preferred); and by rater
    the share of vigilance questions that were failed; 1 of who has answered
    none, where a study has them.

  Raises:
    UserError: a file is damaged, of another study, or of a rater twice.
  """
  votes, failed = [], {}
  checked = any(shown["vigilance"] for shown in key["items"].values())
  for path in files:
    told = _answers(key, path)
    rater, wrong = str(told["rater"]), []
    if rater in failed:
      raise UserError(f"{path}: rater {rater} has answered before")
    for item, given in told["answers"].items():
      shown = key["items"].get(item)
      if shown is None:
        raise UserError(f"{path}: no item {item!r} is in the key")
      for question in key["questions"]:
        if question not in given:
          continue
        first = (given[question] == "left") != shown["swapped"]
        if shown["vigilance"]:
          wrong.append(not first)  # The clean clip is the first.
        else:
          votes.append(
            {
              "rater": rater,
              "prompt": shown["prompt"],
              "question": question,
              "first": first,
            }
          )
    # Who has answered none of them has not shown that they look.
    failed[rater] = float(np.mean(wrong)) if wrong else float(checked)
  return votes, failed


def _answers(key: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
  try:
    told = json.loads(path.read_text(encoding="utf-8"))
    study, _, answers = told["study"], told["rater"], told["answers"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path} holds no answers: {error!r}") from None
  if study != key["study"]:
    raise UserError(f"{path} is of study {study!r}, not of {key['study']!r}")
  # By item, and in each by question.
  if not isinstance(answers, dict):
    raise UserError(f"{path}: its answers are no object but {answers!r:.60}")
  for item, given in answers.items():
    if not isinstance(given, dict):
      raise UserError(f"{path}: item {item!r} is no object but {given!r:.60}")
    for question in key["questions"]:
      if given.get(question, "left") not in ("left", "right"):
        raise UserError(
          f"{path}: item {item!r} has {question}={given[question]!r:.60}, "
          "neither left nor right"
        )
  return told
