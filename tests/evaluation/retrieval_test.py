# SPDX-License-Identifier: Apache-2.0
"""Retrieval finds the object, however it is turned, sized and placed."""

import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import DescriptorConfig, Gallery
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.retrieval import describe


@pytest.fixture(scope="module")
def gallery(drawing):
  return Gallery(
    (drawing.clip(name, background, "stays", num_frames=8), name)
    for name in drawing.objects
    for background in ("white", "black", "orange")
  )


def rank_pose(drawing, gallery, name, background, pose):
  clip = np.stack([drawing.frame(name, background, pose)] * 2)
  return gallery.rank(segment(clip))


@pytest.mark.parametrize("angle", [0, 37, 101, 180, 233, 352])
def test_turned_objects_are_found(drawing, gallery, angle):
  for name in drawing.objects:
    pose = drawing.Pose(angle=angle)
    assert rank_pose(drawing, gallery, name, "gray", pose)[0] == name


@pytest.mark.parametrize("size", [0.3, 0.5, 0.9])
def test_objects_of_any_size_are_found(drawing, gallery, size):
  for name in drawing.objects:
    pose = drawing.Pose(size=size)
    assert rank_pose(drawing, gallery, name, "gray", pose)[0] == name


@pytest.mark.parametrize("place", [(0.3, 0.3), (0.7, 0.35), (0.5, 0.74)])
def test_objects_at_any_place_are_found(drawing, gallery, place):
  for name in drawing.objects:
    pose = drawing.Pose(x=place[0], y=place[1])
    assert rank_pose(drawing, gallery, name, "gray", pose)[0] == name


def test_a_rotation_shifts_the_descriptor(drawing):
  config = DescriptorConfig()
  step = 360 / config.angles
  frames = np.stack(
    [
      drawing.frame("lime disc", "white", drawing.Pose(angle=angle), px=64)
      for angle in (0, 5 * step)
    ]
  )
  plain, turned = describe(segment(frames), config)
  back = [
    float((np.roll(turned, -shift, axis=0) * plain).sum())
    for shift in range(config.angles)
  ]
  assert int(np.argmax(back)) == 5
  assert back[5] > 0.97 > 0.9 > back[0]


def test_noisy_moving_clips_are_found(drawing, gallery):
  moves = ("spins", "bounces", "shrinks")
  for i, name in enumerate(drawing.objects):
    clip = drawing.clip(name, "pink", moves[i % 3], num_frames=16, noise=8)
    assert gallery.rank(segment(clip))[0] == name


def test_similarity_of_a_gallery_frame_is_one(drawing, gallery):
  clip = drawing.clip("lime disc", "white", "stays", num_frames=8)
  similarities = gallery.similarities(segment(clip))
  assert similarities.max() == pytest.approx(1, abs=1e-4)
  assert similarities.argmax() == gallery.objects.index("lime disc")
  assert gallery.objects == drawing.objects


def test_an_empty_clip_is_ranked_without_trouble(gallery):
  ranking = gallery.rank(segment(np.full((8, 32, 32, 3), 9, np.uint8)))
  assert sorted(ranking) == sorted(gallery.objects)


def test_protocol_names_what_was_done(gallery):
  protocol = gallery.describe_protocol()
  assert protocol["descriptor"]["name"] == "polar-lab-gradient"
  assert protocol["descriptor"]["version"] == 1
  assert protocol["gallery_objects"] == 9
  assert protocol["gallery_frames"] == 9 * 3 * 8


def test_a_gallery_of_one_object_is_refused(drawing):
  clip = drawing.clip("lime disc", "white", "stays", num_frames=2)
  with pytest.raises(UserError, match="two objects"):
    Gallery([(clip, "lime disc")])
