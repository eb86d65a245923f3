# SPDX-License-Identifier: Apache-2.0
"""The row of edits: the source itself, another object in its place."""

import numpy as np
import pytest

from lumiere_jax.evaluation import Edit, Labels, edit_row
from lumiere_jax.evaluation.layout import overlap

ASKED = "salmon square"


@pytest.fixture(scope="module")
def sources(drawing):
  return [
    drawing.clip("lime disc", "blue", movement, num_frames=16)
    for movement in ("slides right", "slides left")
  ]


def _row(made, sources, drawing, gallery):
  movements = ("slides right", "slides left")
  edits = [
    Edit(
      made=clip,
      source=source,
      labels=Labels(ASKED, "blue", movement),
      source_object="lime disc",
    )
    for clip, source, movement in zip(made, sources, movements, strict=True)
  ]
  return edit_row(edits, gallery, drawing.palette)


def test_the_source_keeps_all_and_follows_nothing(drawing, gallery, sources):
  row = _row(sources, sources, drawing, gallery)
  assert row["layout_iou"] == 1
  assert row["layout_iou_other"] < 0.8
  assert row["source_object_r1"] == 1
  assert row["object_r1"] == 0


def test_one_edit_alone_has_no_other(drawing, gallery, sources):
  edit = Edit(
    made=sources[0],
    source=sources[0],
    labels=Labels(ASKED, "blue", "slides right"),
    source_object="lime disc",
  )
  assert edit_row([edit], gallery, drawing.palette)["layout_iou_other"] is None


def test_another_object_in_the_same_place(drawing, gallery, sources):
  made = [
    drawing.clip(ASKED, "blue", movement, num_frames=16)
    for movement in ("slides right", "slides left")
  ]
  row = _row(made, sources, drawing, gallery)
  assert row["object_r1"] == 1
  assert row["source_object_r1"] == 0
  assert row["layout_iou"] > 0.5
  assert row["layout_iou"] > row["layout_iou_other"] + 0.1


def test_overlap_counts_soft_masks_by_weight():
  one, other = np.zeros((1, 2, 2)), np.zeros((1, 2, 2))
  one[0, 0] = 1.0
  other[0, :, 0] = 0.5
  assert overlap(one, other) == pytest.approx(0.5 / 2.5)
  assert overlap(np.zeros((1, 2, 2)), np.zeros((1, 2, 2))) == 0
