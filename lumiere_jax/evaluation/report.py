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
from lumiere_jax.evaluation.background import (
  MARGIN,
  Palette,
  background_noise,
  nearest_color,
)
from lumiere_jax.evaluation.flicker import flicker, frame_differences
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.motion import (
  THRESHOLDS,
  decide,
  measure_motions,
  nearest_name,
)
from lumiere_jax.evaluation.retrieval import Gallery
from lumiere_jax.movements import (
  COMBINED,
  MOVEMENTS,
  SECONDS,
  SIZES,
  SPEEDS,
  USUAL_SCALES,
)

ROWS = ("seen", "held_out", "wordings", "real", "shuffled")
MIN_CLIPS = 100
ACCURACIES = (
  "background_accuracy",
  "movement_accuracy",
  "object_r1",
  "object_r5",
  "speed_accuracy",
  "size_accuracy",
)
MEANS = (
  "flicker",
  "flicker_background",
  "flicker_foreground",
  "frame_difference",
  "background_noise",
)

Clip = UInt8[np.ndarray, "t h w 3"]


class Labels(NamedTuple):
  """What a clip was asked to show; "" is the usual speed and size."""

  object: str
  background: str
  movement: str
  speed: str = ""
  size: str = ""


@dataclass(frozen=True)
class Measurement:
  """What a clip was measured to show.

  Attributes:
    ranking: objects, most similar first.
    background: nearest named colour.
    movement: name of the movement.
    rates: a second, of each movement that has one if it is that.
    scales: size in frame sides if it is that object; of objects whose size is
      known.
    means: the numbers named in MEANS, in grey levels 0..255; None where there
      is nothing to measure.
  """

  ranking: tuple[str, ...]
  background: str
  movement: str
  rates: dict[str, float]
  scales: dict[str, float]
  means: dict[str, float | None]

  def speed(self, movement: str) -> str:
    """The speed of a movement that has several, as SPEEDS calls it."""
    return nearest_name(SPEEDS[movement], self.rates[movement])

  def size(self, object_name: str, movement: str) -> str:
    """The size of an object that moves so, as SIZES calls it."""
    usual = USUAL_SCALES[movement]
    return nearest_name(SIZES, self.scales[object_name] / usual)


def measure(clip: Clip, gallery: Gallery, palette: Palette) -> Measurement:
  """Measures one clip; knows nothing of what it was asked to show.

  Args:
    clip: uint8 (t, h, w, 3), at least three frames.
    gallery: real frames of every object.
    palette: name to sRGB levels of every background.
  """
  foreground = segment(clip)
  motions = measure_motions(foreground)
  return Measurement(
    ranking=tuple(gallery.rank(foreground)),
    background=nearest_color(foreground.background, palette),
    movement=decide(motions.scores),
    rates=motions.rates,
    scales=gallery.scales(foreground),
    means={
      "flicker": flicker(clip),
      "flicker_background": flicker(clip, 1 - foreground.mask),
      "flicker_foreground": flicker(clip, foreground.mask),
      "frame_difference": float(frame_differences(clip).mean()),
      "background_noise": background_noise(clip, foreground.mask),
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
  choice(labels.movement, (*MOVEMENTS, *COMBINED), "movement")
  speeds = SPEEDS.get(labels.movement, {"": 0.0})
  choice(labels.speed, tuple(speeds), "speed")
  choice(labels.size, tuple(SIZES), "size")


def summarize(
  pairs: Sequence[tuple[Measurement, Labels]],
) -> dict[str, Any]:
  """One row: accuracies with 95% intervals, means, and confusions.

  Accuracies and means of what no clip of the row has are None.
  """
  timed = [(m, a) for m, a in pairs if a.movement in SPEEDS]
  sized = [
    (m, a)
    for m, a in pairs
    if a.movement in USUAL_SCALES and a.object in m.scales
  ]
  speeds = [(_called(*a[2:4]), _speed_seen(m, a)) for m, a in timed]
  sizes = [(a.size, m.size(a.object, a.movement)) for m, a in sized]
  right = {
    "background_accuracy": [m.background == a.background for m, a in pairs],
    "movement_accuracy": [m.movement == a.movement for m, a in pairs],
    "object_r1": [a.object in m.ranking[:1] for m, a in pairs],
    "object_r5": [a.object in m.ranking[:5] for m, a in pairs],
    "speed_accuracy": [asked == seen for asked, seen in speeds],
    "size_accuracy": [asked == seen for asked, seen in sizes],
  }
  return {
    **{name: _mean(hits) for name, hits in right.items()},
    **{name: _mean([m.means[name] for m, _ in pairs]) for name in MEANS},
    "n": len(pairs),
    "n_speed": len(timed),
    "n_size": len(sized),
    "interval_95": {name: _interval(hits) for name, hits in right.items()},
    "by_movement": _by_movement(pairs),
    "confusion": {
      "background": _confusion((a.background, m.background) for m, a in pairs),
      "movement": _confusion((a.movement, m.movement) for m, a in pairs),
      "object": _confusion((a.object, m.ranking[0]) for m, a in pairs),
      "speed": _confusion(speeds),
      "size": _confusion(
        (asked or "usual", seen or "usual") for asked, seen in sizes
      ),
    },
  }


def _called(movement: str, speed: str) -> str:
  return f"{movement} {speed}".strip()


def _speed_seen(measured: Measurement, asked: Labels) -> str:
  """The movement that was seen, with its speed if it is the one asked for."""
  if measured.movement != asked.movement:
    return measured.movement
  return _called(asked.movement, measured.speed(asked.movement))


def _by_movement(
  pairs: Sequence[tuple[Measurement, Labels]],
) -> dict[str, dict[str, Any]]:
  """Accuracy of each movement that was asked for."""
  right: dict[str, list[bool]] = {}
  for measured, asked in pairs:
    hit = measured.movement == asked.movement
    right.setdefault(asked.movement, []).append(hit)
  return {
    name: {
      "accuracy": _mean(right[name]),
      "n": len(right[name]),
      "interval_95": _interval(right[name]),
    }
    for name in (*MOVEMENTS, *COMBINED)
    if name in right
  }


def _mean(values: Sequence[float | bool | None]) -> float | None:
  """Mean of the values that there are; None without any."""
  there = [value for value in values if value is not None]
  return sum(there) / len(there) if there else None


def _interval(hits: Sequence[bool]) -> list[float] | None:
  return list(wilson_interval(sum(hits), len(hits))) if hits else None


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
    "movement": "trend of centroid and log size, strongest wave of the height "
    "beyond that of the width, and rotation by the share of the pictures' "
    "power that turns one way, over all frames",
    "movement_thresholds": dict(THRESHOLDS),
    "speed": f"turns or hops a second, of a clip of {SECONDS:g} s, and the "
    "nearest speed by its logarithm; of all clips whose movement has speeds, "
    "right where both movement and speed are",
    "speeds": {name: dict(speeds) for name, speeds in SPEEDS.items()},
    "size": "median rms radius against that of gallery clips of the object "
    "asked for, each at the size it is drawn with, and the nearest size by its "
    "logarithm; of all clips whose movement has sizes",
    "sizes": dict(SIZES),
    "object": gallery.describe_protocol(),
    "flicker": "mean |x[t-1] - 2 x[t] + x[t+1]| / 2, grey levels 0..255",
    "frame_difference": "mean |x[t+1] - x[t]|, grey levels 0..255",
    "background_noise": "root of the mean squared deviation from the mean "
    f"color of pixels further than {MARGIN:g} of the height from the sprite, "
    "grey levels 0..255",
    "interval_95": "Wilson",
    "min_clips": MIN_CLIPS,
  }
