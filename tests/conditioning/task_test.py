# SPDX-License-Identifier: Apache-2.0
"""What each task gives: the truth table of masks on four frames."""

import numpy as np
import pytest

from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.task import TASKS, Material, prepare
from lumiere_jax.errors import UserError

SIZE = Size(4, 2, 2)
A = np.full((2, 2, 3), 10, np.uint8)
B = np.full((2, 2, 3), 20, np.uint8)
VIDEO = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3)
# To generate: the upper left pixel.
REGION = np.array([[1, 0], [0, 0]], np.float32)[None, ..., None]
MATERIAL = {
  "image": A,
  "last_image": B,
  "video": VIDEO,
  "region": REGION,
  "frames_given": 3,
  "strength": 0.5,
}
# A pixel inside the region and one outside of it, frame by frame: 1 is given.
TRUTH = {
  "image_to_video": ("1000", "1000"),
  "first_last": ("1001", "1001"),
  "inpaint": ("0000", "1111"),
  "outpaint": ("0000", "1111"),
  "cinemagraph": ("1000", "1111"),
  "extend": ("1110", "1110"),
}


def material(task, **changes):
  values = {name: MATERIAL[name] for name in TASKS[task].needs}
  return Material(**(values | changes))


@pytest.mark.parametrize("task", TRUTH)
def test_truth_table(task):
  pixels, mask = prepare(task, material(task), SIZE)
  assert pixels.shape == (4, 2, 2, 3) and pixels.dtype == np.uint8
  assert mask.shape == (4, 2, 2, 1) and mask.dtype == bool
  inside, outside = TRUTH[task]
  assert "".join(str(int(m)) for m in mask[:, 0, 0, 0]) == inside
  assert "".join(str(int(m)) for m in mask[:, 1, 1, 0]) == outside


def test_every_masked_task_stands_in_the_table():
  assert {name for name, task in TASKS.items() if task.masked} == set(TRUTH)


@pytest.mark.parametrize(
  ("task", "expected"),
  [
    ("image_to_video", [A, A, A, A]),
    ("first_last", [A, A, A, B]),
    ("cinemagraph", [A, A, A, A]),
    ("inpaint", VIDEO),
    ("extend", VIDEO),
  ],
)
def test_given_pixels_are_the_material(task, expected):
  pixels, mask = prepare(task, material(task), SIZE)
  shown = np.where(mask, pixels, 0)
  np.testing.assert_array_equal(shown, np.where(mask, expected, 0))


@pytest.mark.parametrize("task", TASKS)
def test_what_is_needed_is_asked_for_and_nothing_else_taken(task):
  for name in TASKS[task].needs:
    with pytest.raises(UserError, match=f"{task!r} needs --"):
      prepare(task, material(task, **{name: None}), SIZE)
  for name in MATERIAL.keys() - set(TASKS[task].needs):
    with pytest.raises(UserError, match=f"{task!r} has no use for --"):
      prepare(task, material(task, **{name: MATERIAL[name]}), SIZE)


def test_masks_of_everything_or_nothing_are_refused():
  for white, message in ((0, "everything is given"), (1, "nothing is given")):
    region = np.full_like(REGION, white)
    with pytest.raises(UserError, match=message):
      prepare("inpaint", material("inpaint", region=region), SIZE)


def test_a_cinemagraph_of_which_nothing_stands_still_is_refused():
  region = np.ones_like(REGION)
  with pytest.raises(UserError, match="all of the image is to move"):
    prepare("cinemagraph", material("cinemagraph", region=region), SIZE)


def test_numbers_out_of_range_are_refused():
  for count in (0, 4):
    with pytest.raises(
      UserError, match=f"frames_given={count} must be in 1..3"
    ):
      prepare("extend", material("extend", frames_given=count), SIZE)
  with pytest.raises(UserError, match=r"strength=1.5 must be in \[0, 1\]"):
    prepare("video_to_video", material("video_to_video", strength=1.5), SIZE)


def test_tasks_of_text_are_given_nothing():
  for task in ("text_to_video", "text_to_image", "video_to_video"):
    assert prepare(task, material(task), SIZE) is None
