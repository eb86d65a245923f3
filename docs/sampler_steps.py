# SPDX-License-Identifier: Apache-2.0
"""Measures the demo's samplers at few and many steps: docs/sampler_steps.md.

python docs/sampler_steps.py --data_dir=data --clips=clips --seconds=150

makes clips of held-out captions, the same captions and noise for all, and
appends a line to docs/runs/sampler_steps.jsonl for each sampler and number of
steps; what lies there or in --clips is not made again. It begins no clip after
--seconds; the same command again goes on. Then

python docs/sampler_steps.py --draw=docs/sampler_steps.png

draws the lines and prints the table (needs matplotlib, of the "eval" extra).
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lumiere_jax import cli, media
from lumiere_jax.api import Lumiere
from lumiere_jax.config import Config
from lumiere_jax.data import loader, world
from lumiere_jax.diffusion.guidance import guidance_timesteps
from lumiere_jax.diffusion.sampler import sampling_timesteps
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.errors import UserError
from lumiere_jax.evaluate import GALLERY_CLIPS
from lumiere_jax.evaluation import Gallery, evaluate_rows, segment
from lumiere_jax.evaluation.enlargement import psnr
from lumiere_jax.inference.prompt import Request
from lumiere_jax.linked import weights_config
from lumiere_jax.studio import Studio
from lumiere_jax.trials import labels

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "docs" / "runs" / "sampler_steps.jsonl"
SAMPLERS = ("dpmpp_2m", "ddim", "ddpm")
STEPS = (4, 6, 8, 10, 12, 16, 20, 25, 50)
SEED = 0
REAL = "real clips"

Row = Mapping[str, Any]


class Case(NamedTuple):
  """A sampler and its number of steps."""

  sampler: str
  steps: int


# What the samplers without noise of their own lead to, and another sampler's
# clip beside it: how far they agree is how far this is converged. Of so few
# clips, because each takes a minute.
CONVERGED = Case("dpmpp_2m", 100)
REFERENCES = {CONVERGED: 4, Case("ddim", 200): 1}
# From so many steps on, a third of the clips: of the default's sampler, of the
# others.
LONG, LONG_OTHERS = 25, 20


class Kept:
  """The clips of all cases, each made once and kept with the seconds it took.

  Attributes:
    model: makes them.
    config: of the demo as it is shipped; a case changes its sampler.
    real: the clips whose captions they are made of.
  """

  def __init__(self, config: Config, count: int, folder: Path):
    """Loads the model and the real clips.

    Raises:
      UserError: no weights, or no data set.
    """
    self.model = Lumiere.from_config(config)
    self.config = config
    self.real = list(loader.read_clips(config.data, "held_out", count))
    self._folder = folder

  def of(self, case: Case) -> Config:
    """The configuration of a case."""
    sampler = dataclasses.replace(self.config.sampler, **_settings(case))
    return dataclasses.replace(self.config, sampler=sampler)

  def made_with(self, case: Case) -> dict[str, Any]:
    """What the clips of a case depend on, beside their captions."""
    return Studio(self.of(case), SEED, None).made_with(self.model)

  def load(self, case: Case, index: int) -> tuple[np.ndarray, float] | None:
    """A clip and its seconds; None if it was not made, or in another way."""
    path = self._path(case, index)
    if not path.is_file():
      return None
    with np.load(path) as file:
      if str(file["made_with"]) != json.dumps(self.made_with(case)):
        return None
      return file["clip"], float(file["seconds"])

  def make(self, case: Case, index: int) -> None:
    """Makes and keeps a clip; its seconds are those of sampling alone."""
    sampler = self.of(case).sampler
    self.model.compile(sampler=sampler)
    request = Request(self.real[index].caption, index)
    begun = time.perf_counter()
    clip = self.model.run([request], seed=SEED, sampler=sampler)[0]
    seconds = time.perf_counter() - begun
    made_with = json.dumps(self.made_with(case))
    path = self._path(case, index)
    with media.new_file(path) as temporary, temporary.open("wb") as file:
      np.savez(file, clip=clip, seconds=seconds, made_with=made_with)

  def _path(self, case: Case, index: int) -> Path:
    return self._folder / f"{case.sampler}_{case.steps}_{index:03d}.npz"


class Judge:
  """Measures clips as `lumiere_jax.evaluate` does; reads the gallery once."""

  def __init__(self, kept: Kept):
    self._kept = kept
    self._gallery: Gallery | None = None

  def row(self, case: Case, clips: Sequence[np.ndarray]) -> dict[str, Any]:
    """The line of a case, without its seconds."""
    config, made_with = self._kept.of(case), self._kept.made_with(case)
    return {
      **case._asdict(),
      "evaluations": evaluations(config),
      **self._quality(clips),
      **self._distance(case, clips),
      "made_with": made_with,
    }

  def real_row(self) -> dict[str, Any]:
    """The line of the real clips themselves, the ceiling."""
    quality = self._quality([clip.video for clip in self._kept.real])
    return {"sampler": REAL, "steps": 0, **quality}

  def _quality(self, clips: Sequence[np.ndarray]) -> dict[str, Any]:
    if self._gallery is None:
      real = loader.read_clips(self._kept.config.data, "train", GALLERY_CLIPS)
      self._gallery = Gallery((clip.video, clip.emoji) for clip in real)
    gallery = self._gallery
    asked = [labels(clip) for clip in self._kept.real[: len(clips)]]
    pairs = list(zip(clips, asked, strict=True))
    rows = {"held_out": pairs}
    report = evaluate_rows(rows, gallery, world.BACKGROUNDS, allow_small=True)
    names = (*ACCURACIES, "flicker", "frame_difference", "n", "interval_95")
    similar = [
      gallery.similarities(segment(clip))[gallery.objects.index(on.object)]
      for clip, on in pairs
    ]
    row = {name: report["held_out"][name] for name in names}
    return row | {"object_similarity": float(np.mean(similar))}

  def _distance(
    self, case: Case, clips: Sequence[np.ndarray]
  ) -> dict[str, Any]:
    """To the converged clips, of samplers that lead there, and to each other.

    Raises:
      UserError: what they are compared with is to be made before.
    """
    if case.sampler == "ddpm" or case == CONVERGED:
      return {}
    count = min(len(clips), REFERENCES[CONVERGED])
    found = {"psnr_db": self._psnr(clips[:count], CONVERGED), "psnr_n": count}
    same = Case(CONVERGED.sampler, case.steps)
    if case != same and case not in REFERENCES:
      found["psnr_same_steps_db"] = self._psnr(clips[:count], same)
    return found

  def _psnr(self, clips: Sequence[np.ndarray], other: Case) -> float:
    pairs = [(clip, self._kept.load(other, i)) for i, clip in enumerate(clips)]
    if not all(known for _, known in pairs):
      raise UserError(f"{other} is to be measured first")
    return float(np.mean([psnr(clip, known[0]) for clip, known in pairs]))


def _settings(case: Case) -> dict[str, Any]:
  return {"name": case.sampler, "steps": case.steps, "eta": 0.0}


def evaluations(config: Config) -> int:
  """Of the network, for one clip: a step with guidance has two of them."""
  schedule = make_schedule(config.diffusion.schedule)
  timesteps = sampling_timesteps(schedule, config.sampler)
  interval = guidance_timesteps(config.sampler, schedule)
  low, high = interval or (-np.inf, np.inf)
  led = (timesteps >= low) & (timesteps <= high)
  return len(timesteps) + int(led.sum())


def read_lines() -> dict[Case, Row]:
  """What was measured already."""
  if not LINES.is_file():
    return {}
  rows = map(json.loads, LINES.read_text(encoding="utf-8").splitlines())
  return {Case(row["sampler"], row["steps"]): row for row in rows}


def cases(sampler: str | None, steps: int | None) -> Iterator[Case]:
  """The cases to measure, what others are compared with first."""
  every = [Case(s, n) for n in STEPS for s in SAMPLERS]
  for case in [*REFERENCES, *every]:
    if sampler in (None, case.sampler) and steps in (None, case.steps):
      yield case


def clips_of(case: Case, num_clips: int) -> int:
  """How many clips of a case are made."""
  long = LONG if case.sampler == CONVERGED.sampler else LONG_OTHERS
  fewer = num_clips // 3 if case.steps >= long else num_clips
  return REFERENCES.get(case, fewer)


def measure(args: argparse.Namespace) -> None:
  """Appends the lines that are missing, as far as the time reaches.

  Raises:
    UserError: the lines there are of other weights or settings.
  """
  stop = time.monotonic() + args.seconds
  cli.enable_compilation_cache()
  file = cli.read_config(str(ROOT / "configs" / "demo.py"))
  values = weights_config(file["weights"], file)
  config = cli.resolve(values, {"data.data_dir": args.data_dir})
  kept = Kept(config, args.num_clips, args.clips)
  judge, lines = Judge(kept), read_lines()
  if Case(REAL, 0) not in lines:
    _append(judge.real_row())
  for case in cases(args.sampler, args.steps):
    if case in lines:
      if lines[case]["made_with"] != json.loads(
        json.dumps(kept.made_with(case))
      ):
        raise UserError(f"{LINES} has a line of {case} made in another way")
      continue
    count = clips_of(case, args.num_clips)
    for index in range(count):
      if kept.load(case, index) is None:
        if time.monotonic() > stop:
          print(f"left off at {case}, clip {index}")
          return
        kept.make(case, index)
    clips, seconds = zip(
      *(kept.load(case, index) for index in range(count)), strict=True
    )
    # Other work on the machine makes some clips slower, never faster.
    times = {
      "seconds": min(seconds),
      "median_seconds": float(np.median(seconds)),
    }
    _append(judge.row(case, clips) | times)
  print("nothing is left to measure")


def _append(row: Row) -> None:
  with LINES.open("a", encoding="utf-8") as file:
    file.write(json.dumps(row) + "\n")


# What the demo's clips are measured by.
ACCURACIES = (
  "background_accuracy",
  "movement_accuracy",
  "object_r1",
  "object_r5",
)
COLUMNS = (
  "sampler",
  "steps",
  "network evaluations",
  "seconds",
  "background",
  "movement",
  "object R@1",
  "object R@5",
  "object similarity",
  "flicker",
  "frame difference",
  "PSNR to converged",
  "PSNR to dpmpp_2m",
  "n",
)


def table(rows: Mapping[Case, Row]) -> str:
  """The lines as a Markdown table, by sampler and steps."""
  order = (*SAMPLERS, REAL)
  sort = sorted(rows, key=lambda case: (order.index(case.sampler), case.steps))
  lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
  lines += ["| " + " | ".join(_cells(rows[case])) + " |" for case in sort]
  return "\n".join(lines)


def _cells(row: Row) -> list[str]:
  def number(name: str, digits: int) -> str:
    return f"{row[name]:.{digits}f}" if name in row else "-"

  compared = number("psnr_db", 1)
  if "psnr_db" in row and row["psnr_n"] != row["n"]:
    compared += f" (n = {row['psnr_n']})"
  return [
    row["sampler"],
    str(row["steps"] or "-"),
    str(row.get("evaluations", "-")),
    number("seconds", 1),
    *(f"{100 * row[name]:.0f}" for name in ACCURACIES),
    number("object_similarity", 3),
    number("flicker", 2),
    number("frame_difference", 2),
    compared,
    number("psnr_same_steps_db", 1),
    str(row["n"]),
  ]


def draw(rows: Mapping[Case, Row], out: str) -> None:
  """Draws the measures over the steps; dashed are the real clips."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  panels = {
    "movement_accuracy": "movement right",
    "object_similarity": "similarity to the object asked for",
    "flicker": "flicker, grey levels",
    "psnr_db": "PSNR to the converged clip, dB",
  }
  every = rows[Case(REAL, 0)]["n"]
  _, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.4))
  for axis, (name, title) in zip(axes, panels.items(), strict=True):
    for sampler in SAMPLERS:
      found = [rows[c] for s in STEPS if (c := Case(sampler, s)) in rows]
      # What is not compared clip by clip is drawn of the same captions only.
      whole = name == "psnr_db"
      found = [r for r in found if name in r and (whole or r["n"] == every)]
      x = [row["steps"] for row in found]
      axis.plot(x, [row[name] for row in found], "o-", ms=3, label=sampler)
    if name in rows[Case(REAL, 0)]:
      axis.axhline(rows[Case(REAL, 0)][name], color="0.6", ls="--", lw=0.8)
    axis.set(title=title, xlabel="steps", xscale="log")
    axis.set_xticks(STEPS, map(str, STEPS))
    axis.minorticks_off()
  axes[0].legend(fontsize=8)
  plt.tight_layout()
  plt.savefig(out, dpi=80)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  add = parser.add_argument
  add("--data_dir", default="data", help="holds emoji_motion, demo32")
  add("--clips", type=Path, default="clips", help="folder that keeps the clips")
  add("--num_clips", type=int, default=12)
  add("--sampler", choices=SAMPLERS, help="this one only")
  add("--steps", type=int, help="these only")
  add("--seconds", type=float, default=float("inf"))
  add("--draw", help="PNG to draw; measures nothing")
  args = parser.parse_args()
  if not args.draw:
    measure(args)
    return
  rows = read_lines()
  draw(rows, args.draw)
  print(table(rows))


if __name__ == "__main__":
  main()
