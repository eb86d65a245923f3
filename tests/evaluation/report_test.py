# SPDX-License-Identifier: Apache-2.0
"""The report: right rows near 100%, shuffled ones at chance, exact fields."""

import json

import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import (
  MOVEMENTS,
  Labels,
  evaluate_rows,
  format_table,
  shuffle_labels,
)
from lumiere_jax.evaluation.report import (
  Measurement,
  measure,
  summarize,
  wilson_interval,
)

# As they are named where the table is specified.
FIELDS = {
  "background_accuracy",
  "movement_accuracy",
  "object_r1",
  "object_r5",
  "flicker",
  "n",
}


@pytest.fixture(scope="module")
def row(drawing):
  """Every movement three times, with all objects and backgrounds: 27 clips."""
  backgrounds = list(drawing.palette)
  pairs = []
  for i, movement in enumerate(MOVEMENTS):
    for j in range(3):
      labels = Labels(
        object=drawing.objects[(4 * i + j) % len(drawing.objects)],
        background=backgrounds[(5 * i + j) % len(backgrounds)],
        movement=movement,
      )
      clip = drawing.clip(*labels, noise=3, seed=i)
      pairs.append((clip, labels))
  return pairs


def test_report_of_real_and_shuffled_rows(drawing, gallery, row):
  report = evaluate_rows(
    {"real": row, "shuffled": shuffle_labels(row, seed=0)},
    gallery,
    drawing.palette,
    allow_small=True,
  )
  assert set(report) == {"real", "shuffled", "protocol"}
  real, shuffled = report["real"], report["shuffled"]
  for values in (real, shuffled):
    assert set(values) >= FIELDS
    assert values["n"] == 27
  assert real["background_accuracy"] == real["movement_accuracy"] == 1
  assert real["object_r1"] >= 0.95
  # Chance is 1/12, 1/9, 1/9 and 5/9.
  assert shuffled["background_accuracy"] < 0.35
  assert shuffled["movement_accuracy"] < 0.35
  assert shuffled["object_r1"] < 0.35
  assert 0.3 < shuffled["object_r5"] < 0.85
  assert shuffled["flicker"] == real["flicker"] > 0
  assert real["confusion"]["movement"] == {m: {m: 3} for m in sorted(MOVEMENTS)}
  for group in shuffled["confusion"].values():
    assert sum(sum(counts.values()) for counts in group.values()) == 27
  assert report["protocol"]["object"]["gallery_objects"] == 9
  assert report["protocol"]["movement_thresholds"]["turns"] > 0
  assert json.loads(json.dumps(report)) == report
  table = format_table(report).splitlines()
  assert [line.split(" | ")[0] for line in table[2:]] == [
    "| real",
    "| shuffled",
  ]
  assert "100.0 (88 to 100)" in table[2]


def test_r5_counts_the_first_five():
  def ranked(place):
    names = [f"other {i}" for i in range(8)]
    names.insert(place, "mine")
    return Measurement(
      ranking=tuple(names),
      background="red",
      movement="stays",
      means=dict.fromkeys(
        (
          "flicker",
          "flicker_background",
          "flicker_foreground",
          "frame_difference",
        ),
        float(place),
      ),
    )

  labels = Labels(object="mine", background="red", movement="spins")
  row = summarize([(ranked(place), labels) for place in (0, 4, 5, 7)])
  assert (row["object_r1"], row["object_r5"]) == (0.25, 0.5)
  assert (row["background_accuracy"], row["movement_accuracy"]) == (1, 0)
  assert row["flicker"] == 4
  assert row["confusion"]["movement"] == {"spins": {"stays": 4}}
  assert row["interval_95"]["object_r5"] == list(wilson_interval(2, 4))


def test_measure_is_blind_to_the_labels(drawing, gallery, row):
  clip, labels = row[0]
  got = measure(clip, gallery, drawing.palette)
  assert (got.ranking[0], got.background, got.movement) == tuple(labels)


@pytest.mark.parametrize(
  ("hits", "n", "low", "high"),
  [(0, 10, 0.0, 0.2775), (50, 100, 0.4038, 0.5962), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_interval_of_textbooks(hits, n, low, high):
  assert wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-4)


def test_shuffling_keeps_clips_and_labels(row):
  shuffled = shuffle_labels(row, seed=3)
  assert all(a is b for (a, _), (b, _) in zip(row, shuffled, strict=True))
  assert sorted(labels for _, labels in row) == sorted(
    labels for _, labels in shuffled
  )
  assert shuffled == shuffle_labels(row, seed=3)
  assert [a for _, a in shuffled] != [a for _, a in row]


def test_mistakes_are_named(drawing, gallery, row):
  clip, labels = row[0]

  def run(name, wrong, allow_small=True):
    rows = {name: [(clip, wrong)]}
    evaluate_rows(rows, gallery, drawing.palette, allow_small)

  with pytest.raises(UserError, match=r"row 'real' has 1 clips, needs 100"):
    run("real", labels, allow_small=False)
  with pytest.raises(UserError, match=r"unknown row='reel'.*'real'"):
    run("reel", labels)
  for field in labels._fields:
    with pytest.raises(UserError, match=f"unknown {field}='nonsense'"):
      run("real", labels._replace(**{field: "nonsense"}))
