# SPDX-License-Identifier: Apache-2.0
"""The masks that training draws: each task's form, by its weight."""

import dataclasses

import jax
import numpy as np
import pytest

from lumiere_jax.conditioning import mask as masks
from lumiere_jax.config import MixtureConfig

SIZE = masks.Size(6, 16, 16)
NONE = dict.fromkeys((f.name for f in dataclasses.fields(MixtureConfig)), 0.0)


def draw(count, **weights):
  keys = jax.random.split(jax.random.key(0), count)
  mixture = MixtureConfig(**(NONE | weights))
  return np.asarray(
    jax.vmap(lambda key: masks.draw_mask(key, SIZE, mixture))(keys)
  )


def test_masks_are_zero_or_one_and_of_the_clips_size():
  drawn = draw(50, **dataclasses.asdict(MixtureConfig()))
  assert drawn.shape == (50, *SIZE, 1)
  assert set(np.unique(drawn)) == {0.0, 1.0}


def test_tasks_are_drawn_by_their_weights():
  drawn = draw(400, text_to_video=3.0, first_last=1.0)
  given = drawn.any(axis=(1, 2, 3, 4))
  assert 0.18 < given.mean() < 0.32


@pytest.mark.parametrize(
  ("task", "frames"),
  [
    ("text_to_video", "000000"),
    ("image_to_video", "100000"),
    ("first_last", "100001"),
  ],
)
def test_whole_frames(task, frames):
  for mask in draw(5, **{task: 1.0}):
    for frame, given in zip(mask, frames, strict=True):
      assert set(np.unique(frame)) == {float(given)}


def test_extending_is_given_some_of_the_first_frames():
  frames = draw(100, extend=1.0).all(axis=(2, 3, 4)).astype(int)
  counts = frames.sum(1)
  assert set(counts) == {1, 2, 3, 4, 5}
  assert (np.diff(frames, axis=1) <= 0).all()


def test_inpainting_gives_all_but_a_region_that_may_move():
  drawn = draw(100, inpaint=1.0)
  holes = 1.0 - drawn.mean(axis=(2, 3, 4))
  assert (holes > 0.02).all() and (holes < 0.7).all()
  moves = (drawn[:, 0] != drawn[:, -1]).any(axis=(1, 2, 3))
  assert 0.1 < moves.mean() < 0.5


def test_outpainting_gives_a_box():
  for mask in draw(20, outpaint=1.0)[..., 0]:
    for frame in mask:
      rows, columns = frame.any(1), frame.any(0)
      np.testing.assert_array_equal(frame, np.outer(rows, columns))
      assert 0.1 < frame.mean() < 0.75


def test_cinemagraphs_are_given_the_first_frame_and_all_but_a_region():
  drawn = draw(50, cinemagraph=1.0)
  assert drawn[:, 0].all()
  assert not drawn[:, 1].all(axis=(1, 2, 3)).any()
  assert drawn[:, 1].any(axis=(1, 2, 3)).all()


def test_a_mask_depends_on_its_key_alone():
  keys = jax.random.split(jax.random.key(5), 3)
  mixture = MixtureConfig()
  shape = (3, *SIZE, 3)
  together = masks.draw_masks(keys, shape, mixture)
  alone = masks.draw_masks(keys[1:2], (1, *SIZE, 3), mixture)
  np.testing.assert_array_equal(together[1], alone[0])
