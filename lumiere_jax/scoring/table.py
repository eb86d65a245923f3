# SPDX-License-Identifier: Apache-2.0
"""Scores of feature sets with their cards: one row for each set of clips."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lumiere_jax.scoring.card import Card
from lumiere_jax.scoring.distance import (
  KernelDistance,
  frechet_of,
  inception_score,
  project,
)
from lumiere_jax.scoring.enough import PROJECTED, SPLITS, is_stable
from lumiere_jax.scoring.moments import DTYPE, check_finite
from lumiere_jax.scoring.uncertainty import (
  Score,
  bootstrap,
  extrapolate,
  mean_interval,
)
from lumiere_jax.shapes import Float

Features = Float[np.ndarray, "_ _"]
Rows = dict[str, list[dict[str, Any]]]  # Scores by the names of sets of clips.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
  """Where features come from: what a card has whichever score it is of.

  Attributes:
    title: what the network's scores are called by; "" of I3D.
    network, network_sha256, resize: as of a card; "" until they are known.
    frames, fps, stride, clip_rule: of the clips.
    reference: as of a card.
    seed: of what is drawn.
  """

  title: str = ""
  network: str = ""
  network_sha256: str = ""
  resize: str = ""
  frames: int
  fps: float
  stride: int
  clip_rule: str
  reference: str
  seed: int

  def card(
    self, score: str, real: int, generated: int, dimensions: int, **fields: Any
  ) -> Card:
    """Of one score."""
    shared = dataclasses.asdict(self)
    del shared["title"]
    return Card(
      score=score,
      real=real,
      generated=generated,
      dimensions=dimensions,
      dtype=DTYPE,
      **shared,
      **fields,
    )

  def card_of_one(
    self, score: str, clips: int, dimensions: int, *, real: bool, **fields: Any
  ) -> Card:
    """Of a score that sees one set of clips; no reference if it is not real."""
    counts = (clips, 0) if real else (0, clips)
    source = self if real else dataclasses.replace(self, reference="")
    return source.card(score, *counts, dimensions, **fields)

  def name(self, kernel: bool) -> str:
    """FVD and KVD are I3D's; others carry the network's name."""
    if not self.title:
      return "KVD" if kernel else "FVD"
    return f"{self.title}-{'KD' if kernel else 'FD'}"


def score_all(
  source: Source,
  real: Features,
  made: Features,
  *,
  allow_small: bool = False,
  rounds: int = 200,
) -> list[dict[str, Any]]:
  """All scores of a set of generated clips, those that few clips allow.

  The Frechet distance; the same after a fixed random projection; the unbiased
  kernel distance. The first two need twice as many clips as dimensions.

  Args:
    source: of the features.
    real: of real clips.
    made: of generated ones.
    allow_small: Frechet distances of fewer clips too.
    rounds: of the bootstrap.

  Returns:
    For each its "value", "interval", where few clips move it the "infinite"
    value, and its "card".

  Raises:
    UserError: the sets are of different widths, or of fewer than two clips.
  """
  found = frechet_rows(
    source, real, made, allow_small=allow_small, rounds=rounds
  )
  card = source.card(source.name(True), len(real), len(made), real.shape[1])
  every = (np.arange(len(real)), np.arange(len(made)))
  kernel = KernelDistance(real, made)
  found.append(_scored(card, kernel, *every, rounds, biased=False))
  return found


def frechet_rows(
  source: Source,
  real: Features,
  made: Features,
  *,
  allow_small: bool = False,
  rounds: int = 200,
) -> list[dict[str, Any]]:
  """The first two scores of `score_all`, with the same arguments and results.

  The kernel distance keeps the kernel of all pairs of clips: of ten thousand
  that takes gigabytes.
  """
  found = []
  seed, width = source.seed, real.shape[1]
  least = min(len(real), len(made))
  if allow_small or is_stable(least, width):
    card = source.card(source.name(False), len(real), len(made), width)
    found.append(_frechet(card, real, made, rounds))
  if width > PROJECTED and (allow_small or is_stable(least, PROJECTED)):
    told = f"from {width}, normal, NumPy PCG64 seed {seed}"
    card = source.card(
      f"{source.name(False)}{PROJECTED}",
      len(real),
      len(made),
      PROJECTED,
      projection=told,
    )
    parts = (project(x, PROJECTED, seed) for x in (real, made))
    found.append(_frechet(card, *parts, rounds))
  return found


def rows_beside(
  scored: Callable[[Features, Features], list[dict[str, Any]]],
  real: Features,
  made: Features,
  spoilt: Mapping[str, Features],
) -> Rows:
  """Scores of generated clips, and of what they are to be seen beside.

  "generated" is against all real clips. The others are against the real clips
  in first, third, ... place: "generated, half", as many generated clips as are
  left; "real", those in second, fourth, ... place, the floor; and canaries.

  Args:
    scored: (real, made) -> rows.
    real: features of real clips.
    made: of generated ones.
    spoilt: of the real clips in second, fourth, ... place, by canary.
  """
  reference, held = real[0::2], real[1::2]
  sets = {"generated, half": made[: len(held)], "real": held, **spoilt}
  found = {"generated": scored(real, made)}
  for name, features in sets.items():
    found[name] = scored(reference, features)
  return found


def mixed(logits: Features, seed: int) -> Features:
  """In an order of the seed's.

  Files are often sorted by class, and every part of an Inception Score is to
  have all of them.
  """
  rng = np.random.Generator(np.random.PCG64(seed))
  return logits[rng.permutation(len(logits))]


def inception_row(
  source: Source, logits: Features, *, real: bool = False, splits: int = SPLITS
) -> dict[str, Any]:
  """The Inception Score of a set of clips: "value", "std" over splits, "card".

  Args:
    source: of the logits.
    logits: of a classifier, in an order in which every split has all classes.
    real: whether the clips are real ones.
    splits: as of `inception_score`.

  Raises:
    UserError: there are fewer clips than splits, or one is not finite.
  """
  check_finite(logits, "class logits")
  value, std = inception_score(logits, splits)
  card = source.card_of_one("IS", *logits.shape, real=real, splits=splits)
  return {"value": value, "std": std, "card": card.as_dict()}


def _frechet(
  card: Card, real: Features, made: Features, rounds: int
) -> dict[str, Any]:
  row = _scored(card, frechet_of, real, made, rounds, biased=True)
  row["infinite"] = extrapolate(frechet_of, real, made, seed=card.seed)
  return row


def _scored(
  card: Card,
  score: Score,
  real: np.ndarray,
  made: np.ndarray,
  rounds: int,
  *,
  biased: bool,
) -> dict[str, Any]:
  interval = bootstrap(
    score, real, made, biased=biased, rounds=rounds, seed=card.seed
  )
  return {
    "value": score(real, made),
    "interval": list(interval[:2]),
    "level": interval.level,
    "card": card.as_dict(),
  }


def score_means(
  source: Source,
  names: Sequence[str],
  values: Float[np.ndarray, "n names"],
  rounds: int = 200,
  *,
  real: bool = False,
) -> list[dict[str, Any]]:
  """The means of what each clip has a value of, as `score_all` gives scores.

  Args:
    source: of the values.
    names: of the columns.
    values: of each clip; not a number where it has none.
    rounds: of the bootstrap over clips.
    real: whether the clips are real ones.

  Returns:
    A row for each column in which a clip has a value.
  """
  found = []
  for name, column in zip(names, np.asarray(values, DTYPE).T, strict=True):
    known = column[~np.isnan(column)]
    if not len(known):
      continue
    interval = mean_interval(known, rounds=rounds, seed=source.seed)
    row = {"value": float(known.mean()), "interval": list(interval[:2])}
    card = source.card_of_one(name, len(known), 1, real=real)
    found.append({**row, "level": interval.level, "card": card.as_dict()})
  return found


def format_rows(rows: Mapping[str, list[dict[str, Any]]]) -> str:
  """Score by score, a line for each set of clips, with the hash of its card."""
  lines = [
    f"{'score':<19} {'clips':<15} {'value':>10} {'95% interval':>22} "
    f"{'infinite':>10} {'real':>6} {'made':>6}  card"
  ]
  by_score: dict[str, list[str]] = {}
  for name, scores in rows.items():
    for row in scores:
      card = row["card"]
      interval = "-"
      if "interval" in row:
        low, high = row["interval"]
        interval = f"{low:.4g} to {high:.4g}"
      elif "std" in row:
        interval = f"std {row['std']:.4g}"
      infinite = f"{row['infinite']:.4g}" if "infinite" in row else "-"
      of_score = by_score.setdefault(card["score"], [])
      of_score.append(
        f"{'' if of_score else card['score']:<19} {name:<15} "
        f"{row['value']:>10.4g} {interval:>22} {infinite:>10} "
        f"{card['real'] or '-':>6} {card['generated'] or '-':>6}  "
        f"{card['hash']}"
      )
  return "\n".join(
    lines + [line for part in by_score.values() for line in part]
  )


def format_left_out(left_out: Mapping[str, Mapping[str, str]]) -> list[str]:
  """A line for each score that is missing, and for each set that lost clips.

  Args:
    left_out: reasons, of "scores" by their names, of other sets by clip.
  """
  lines = []
  for name, why in left_out.items():
    if name == "scores":
      lines += [f"{score} was not measured: {r}" for score, r in why.items()]
    elif why:
      first = next(iter(why.values()))
      lines.append(f"{len(why)} {name} clips were left out, the first: {first}")
  return lines
