# SPDX-License-Identifier: Apache-2.0
"""The report: right rows near 100%, shuffled ones at chance, exact fields."""

import json

import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import (
  Labels,
  evaluate_rows,
  format_table,
  shuffle_labels,
)
from lumiere_jax.evaluation.report import (
  MEANS,
  Measurement,
  measure,
  summarize,
  wilson_interval,
)
from lumiere_jax.movements import MOVEMENTS

# As they are named where the table is specified.
FIELDS = {
  "background_accuracy",
  "movement_accuracy",
  "object_r1",
  "object_r5",
  "flicker",
  "background_noise",
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
      clip = drawing.clip(*labels[:3], noise=3, seed=i)
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
  total = {"speed": shuffled["n_speed"], "size": shuffled["n_size"]}
  for name, group in shuffled["confusion"].items():
    counted = sum(sum(counts.values()) for counts in group.values())
    assert counted == total.get(name, 27)
  assert report["protocol"]["object"]["gallery_objects"] == 9
  assert report["protocol"]["movement_thresholds"]["turning"] > 0
  # Of noise of 3, which white and black cut off.
  assert real["background_noise"] == pytest.approx(2.7, rel=0.1)
  assert list(real["by_movement"]) == list(MOVEMENTS)
  # Two turns and four hops in a clip are the usual speeds; how large the
  # gallery's objects are drawn is not known.
  assert (real["speed_accuracy"], real["n_speed"]) == (1, 6)
  assert (real["size_accuracy"], real["n_size"]) == (None, 0)
  assert json.loads(json.dumps(report)) == report
  table, by_movement = format_table(report).split("\n\n")
  table = table.splitlines()
  assert [line.split(" | ")[0] for line in table[2:]] == [
    "| real",
    "| shuffled",
  ]
  assert "100.0 (88 to 100)" in table[2]
  assert "speed_accuracy" in table[0] and "size_accuracy" not in table[0]
  by_movement = by_movement.splitlines()
  assert by_movement[0] == "| movement | real | shuffled |"
  assert by_movement[2].startswith("| stays | 100.0 (44 to 100), n 3 |")


def measured(place=0, movement="stays", rate=0.0, scale=0.0, noise=0.0):
  """A measurement whose object "mine" ranks at this place."""
  names = [f"other {i}" for i in range(8)]
  names.insert(place, "mine")
  return Measurement(
    ranking=tuple(names),
    background="red",
    movement=movement,
    rates={"spins": rate, "bounces": rate},
    scales={"mine": scale} if scale else {},
    means=dict.fromkeys(MEANS, float(place)) | {"background_noise": noise},
  )


def asked(movement="spins", speed="", size=""):
  return Labels("mine", "red", movement, speed, size)


def test_r5_counts_the_first_five():
  row = summarize([(measured(place), asked()) for place in (0, 4, 5, 7)])
  assert (row["object_r1"], row["object_r5"]) == (0.25, 0.5)
  assert (row["background_accuracy"], row["movement_accuracy"]) == (1, 0)
  assert row["flicker"] == 4
  assert row["confusion"]["movement"] == {"spins": {"stays": 4}}
  assert row["interval_95"]["object_r5"] == list(wilson_interval(2, 4))


def test_a_speed_counts_where_its_movement_is_seen():
  row = summarize(
    [
      (measured(movement="spins", rate=0.4), asked()),
      (measured(movement="spins", rate=2.5), asked(speed="very fast")),
      (measured(movement="spins", rate=2.5), asked(speed="quickly")),
      (measured(movement="stays", rate=0.2), asked(speed="slowly")),
      (measured(movement="grows"), asked("grows")),
    ]
  )
  assert (row["speed_accuracy"], row["n_speed"]) == (0.5, 4)
  assert row["interval_95"]["speed_accuracy"] == list(wilson_interval(2, 4))
  assert row["confusion"]["speed"] == {
    "spins": {"spins": 1},
    "spins quickly": {"spins very fast": 1},
    "spins slowly": {"stays": 1},
    "spins very fast": {"spins very fast": 1},
  }
  assert row["by_movement"]["spins"] == {
    "accuracy": 0.75,
    "n": 4,
    "interval_95": list(wilson_interval(3, 4)),
  }


def test_a_size_counts_beside_that_of_its_movement():
  row = summarize(
    [
      (measured(scale=0.66), asked("stays")),
      (measured(scale=0.66), asked("bounces", size="big")),
      (measured(scale=0.66), asked("stays", size="small")),
      (measured(scale=0.66), asked("grows")),
      (measured(), asked("stays")),
    ]
  )
  assert (row["size_accuracy"], row["n_size"]) == (2 / 3, 3)
  assert row["confusion"]["size"]["small"] == {"usual": 1}


def test_what_no_clip_has_is_none():
  row = summarize([(measured(noise=None), asked("grows"))])
  assert row["speed_accuracy"] is row["size_accuracy"] is None
  assert row["background_noise"] is None
  noisy = summarize(
    [(measured(noise=noise), asked("grows")) for noise in (None, 2.0, 4.0)]
  )
  assert noisy["background_noise"] == 3
  table = format_table({"real": row, "seen": noisy}).splitlines()
  assert table[2].split(" | ")[-2:] == ["-", "1 |"]


def test_measure_is_blind_to_the_labels(drawing, gallery, row):
  clip, labels = row[0]
  got = measure(clip, gallery, drawing.palette)
  assert (got.ranking[0], got.background, got.movement) == labels[:3]


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
