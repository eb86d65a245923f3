# SPDX-License-Identifier: Apache-2.0
"""The table of an evaluation: rows of clips, with what was asked of each."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from lumiere_jax.config.check import choice
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.background import Palette, nearest_color
from lumiere_jax.evaluation.flicker import flicker, frame_differences
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.motion import (
  MOVEMENTS,
  THRESHOLDS,
  decide,
  movement_scores,
)
from lumiere_jax.evaluation.retrieval import Gallery

ROWS = ("seen", "held_out", "real", "shuffled")
MIN_CLIPS = 100
ACCURACIES = (
  "background_accuracy",
  "movement_accuracy",
  "object_r1",
  "object_r5",
)
MEANS = (
  "flicker",
  "flicker_background",
  "flicker_foreground",
  "frame_difference",
)

Clip = UInt8[np.ndarray, "t h w 3"]


class Labels(NamedTuple):
  """What a clip was asked to show."""

  object: str
  background: str
  movement: str


@dataclass(frozen=True)
class Measurement:
  """What a clip was measured to show.

  Attributes:
    ranking: objects, most similar first.
    background: nearest named colour.
    movement: name of the movement.
    means: the numbers named in MEANS, in grey levels 0..255.
  """

  ranking: tuple[str, ...]
  background: str
  movement: str
  means: dict[str, float]


def measure(clip: Clip, gallery: Gallery, palette: Palette) -> Measurement:
  """Measures one clip; knows nothing of what it was asked to show.

  Args:
    clip: uint8 (t, h, w, 3), at least three frames.
    gallery: real frames of every object.
    palette: name to sRGB levels of every background.
  """
  foreground = segment(clip)
  return Measurement(
    ranking=tuple(gallery.rank(foreground)),
    background=nearest_color(foreground.background, palette),
    movement=decide(movement_scores(foreground)),
    means={
      "flicker": flicker(clip),
      "flicker_background": flicker(clip, 1 - foreground.mask),
      "flicker_foreground": flicker(clip, foreground.mask),
      "frame_difference": float(frame_differences(clip).mean()),
    },
  )


def evaluate_rows(
  rows: Mapping[str, Iterable[tuple[Clip, Labels]]],
  gallery: Gallery,
  palette: Palette,
  allow_small: bool = False,
) -> dict[str, Any]:
  """Measures every clip of every row; plain values, ready for JSON.

  Args:
    rows: by name, of ROWS: clips generated for combinations seen in training
      and for held-out ones, real clips (the ceiling), and generated clips
      with the labels of other ones (the floor; `shuffle_labels`).
    gallery: real frames of every object, none of them of the real row.
    palette: name to sRGB levels of every background.
    allow_small: accept rows of fewer than MIN_CLIPS clips.

  Returns:
    A dictionary for each row, and "protocol": how it was measured.

  Raises:
    UserError: an unknown row, a label that cannot be right, or too few clips.
  """
  report: dict[str, Any] = {}
  for name, clips in rows.items():
    choice(name, ROWS, "row")
    pairs = []
    for clip, labels in clips:
      _check_labels(labels, gallery, palette)
      pairs.append((measure(clip, gallery, palette), labels))
    least = 1 if allow_small else MIN_CLIPS
    if len(pairs) < least:
      raise UserError(f"row {name!r} has {len(pairs)} clips, needs {least}")
    report[name] = summarize(pairs)
  report["protocol"] = _protocol(gallery, palette)
  return report


def _check_labels(labels: Labels, gallery: Gallery, palette: Palette) -> None:
  choice(labels.object, gallery.objects, "object")
  choice(labels.background, tuple(palette), "background")
  choice(labels.movement, MOVEMENTS, "movement")


def summarize(
  pairs: Sequence[tuple[Measurement, Labels]],
) -> dict[str, Any]:
  """One row: accuracies with 95% intervals, means, and confusions."""
  right = {
    "background_accuracy": [m.background == a.background for m, a in pairs],
    "movement_accuracy": [m.movement == a.movement for m, a in pairs],
    "object_r1": [a.object in m.ranking[:1] for m, a in pairs],
    "object_r5": [a.object in m.ranking[:5] for m, a in pairs],
  }
  n = len(pairs)
  return {
    **{name: sum(hits) / n for name, hits in right.items()},
    **{name: sum(m.means[name] for m, _ in pairs) / n for name in MEANS},
    "n": n,
    "interval_95": {
      name: list(wilson_interval(sum(hits), n)) for name, hits in right.items()
    },
    "confusion": {
      "background": _confusion((a.background, m.background) for m, a in pairs),
      "movement": _confusion((a.movement, m.movement) for m, a in pairs),
      "object": _confusion((a.object, m.ranking[0]) for m, a in pairs),
    },
  }


def _confusion(
  pairs: Iterable[tuple[str, str]],
) -> dict[str, dict[str, int]]:
  """Counts: asked for -> measured -> clips."""
  counts: dict[str, dict[str, int]] = {}
  for (asked, measured), count in sorted(Counter(pairs).items()):
    counts.setdefault(asked, {})[measured] = count
  return counts


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
  """95% score interval of a proportion (E. B. Wilson, JASA 22, 1927)."""
  z = 1.959964
  share = hits / n
  middle = share + z * z / (2 * n)
  half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
  scale = 1 + z * z / n
  return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def shuffle_labels(
  pairs: Sequence[tuple[Clip, Labels]], seed: int
) -> list[tuple[Clip, Labels]]:
  """Gives every clip the labels of a clip drawn without replacement."""
  order = np.random.default_rng(seed).permutation(len(pairs))
  return [
    (clip, pairs[i][1]) for (clip, _), i in zip(pairs, order, strict=True)
  ]


def _protocol(gallery: Gallery, palette: Palette) -> dict[str, Any]:
  return {
    "background": "nearest palette colour in CIELAB to the commonest border "
    "colour",
    "palette": {name: list(rgb) for name, rgb in palette.items()},
    "movement": "trend of centroid and log size, wave of the height, and "
    "rotation by correlated polar pictures, over all frames",
    "movement_thresholds": dict(THRESHOLDS),
    "object": gallery.describe_protocol(),
    "flicker": "mean |x[t-1] - 2 x[t] + x[t+1]| / 2, grey levels 0..255",
    "frame_difference": "mean |x[t+1] - x[t]|, grey levels 0..255",
    "interval_95": "Wilson",
    "min_clips": MIN_CLIPS,
  }
