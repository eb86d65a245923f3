# SPDX-License-Identifier: Apache-2.0
import dataclasses
import itertools
import pickle
import shutil

import numpy as np
import pytest

from lumiere_jax.config import DataConfig
from lumiere_jax.data import clips, loader, pack, render, scenes, world
from lumiere_jax.data.motion import MOTIONS
from lumiere_jax.data.sprite_source import SpriteSource, decoded_file
from lumiere_jax.errors import UserError


@pytest.fixture(scope="module")
def cfg(sprites, tmp_path_factory) -> DataConfig:
  folder = tmp_path_factory.mktemp("pack") / "sprites"
  shutil.copytree(sprites, folder)
  return DataConfig(
    kind="sprites",
    data_dir=str(folder),
    config="all",
    num_frames=16,
    size_px=16,
  )


def take(cfg, stage, count, *, skip=0, **options):
  options = {"batch_size": 3, "seed": 0, **options}
  batches = loader.make_loader(cfg, stage=stage, **options)
  if skip:
    batches.set_state({"batches": skip})
  return list(itertools.islice(batches, count))


def same(a, b):
  return all(
    np.array_equal(x[name], y[name])
    for x, y in zip(a, b, strict=True)
    for name in ("pixels", "caption")
  )


@pytest.mark.parametrize("stage", loader.STAGES)
def test_examples_are_those_of_seed_and_position(cfg, stage):
  first = take(cfg, stage, 4)
  shape = (16, 16, 16, 3) if stage == "video" else (16, 16, 3)
  assert first[0]["pixels"].shape == (3, *shape)
  assert first[0]["pixels"].dtype == np.uint8
  assert same(first, take(cfg, stage, 4))
  assert same(first[2:], take(cfg, stage, 2, skip=2))
  assert not same(first, take(cfg, stage, 4, seed=1))


def test_a_scene_is_never_drawn_the_same_twice(cfg):
  source = SpriteSource(cfg)
  epochs = take(cfg, "image", 2, batch_size=len(source))
  by_caption = [
    dict(zip(epoch["caption"], epoch["pixels"], strict=True))
    for epoch in epochs
  ]
  common = by_caption[0].keys() & by_caption[1].keys()
  equal = [np.array_equal(*(e[c] for e in by_caption)) for c in common]
  assert len(common) > 50 and np.mean(equal) < 0.02


def test_segments_and_crops_are_parts_of_whole_clips(cfg):
  part = dataclasses.replace(cfg, segment_frames=4, crop_px=8)
  clip = take(part, "video", 1)[0]["pixels"]
  assert clip.shape == (3, 4, 8, 8, 3)
  sketch = SpriteSource(cfg)[0].media
  size = render.ClipSize(16, 16)
  whole = sketch.draw(np.random.default_rng(5), size, range(16))
  some = sketch.draw(np.random.default_rng(5), size, [3, 9])
  np.testing.assert_array_equal(whole[[3, 9]], some)


def test_clips_are_those_of_their_scenes(cfg):
  source = SpriteSource(cfg)
  index = 7
  scene = source.scenes[index].scene
  info = source.infos[scene.object]
  loop = render.premultiplied(pack.read_sprite(cfg.data_dir, info).frames)
  params = render.draw_params(np.random.default_rng(2), info.frames)
  wanted = render.render_clip(
    loop, world.BACKGROUNDS[scene.background], scene.motion, params, 16, 16
  )
  drawn = source[index].media.draw(
    np.random.default_rng(2), render.ClipSize(16, 16), range(16)
  )
  np.testing.assert_array_equal(drawn, wanted)


def test_worker_processes_get_no_pixels(cfg):
  source = SpriteSource(cfg)
  source[0].media.draw(
    np.random.default_rng(0), render.ClipSize(16, 16), range(2)
  )
  data = pickle.dumps(source)
  assert len(data) < 200_000
  again = pickle.loads(data)
  assert again[3].caption == source[3].caption
  np.testing.assert_array_equal(again[3].media.loop, source[3].media.loop)


def test_sprites_are_decoded_once(cfg, monkeypatch):
  infos = SpriteSource(cfg).infos
  monkeypatch.setattr(pack, "read_sprite", None)
  assert decoded_file(SpriteSource(cfg)._folder, infos).is_file()


def test_training_can_ask_for_movements_more_often(cfg):
  focused = dataclasses.replace(cfg, focus=("spins",), focus_share=0.9)
  captions = [c for b in take(focused, "video", 10) for c in b["caption"]]
  turning = [any(w in c for w in ("spin", "rotat", "turn")) for c in captions]
  assert np.mean(turning) > 0.6


def test_held_out_scenes_and_wordings_are_not_trained_on():
  names = [(f"thing {i}", f"object {i}") for i in range(40)]
  parts = {s: scenes.captioned_scenes(names, s) for s in scenes.SPLITS}
  combinations = {s: {c.scene for c in parts[s]} for s in parts}
  assert not combinations["train"] & combinations["held_out"]
  assert not any(map(scenes.is_held_out, combinations["wordings"]))
  words = {s: {c.caption for c in parts[s]} for s in parts}
  assert not words["train"] & words["wordings"]
  # Every motion and background is there in all splits.
  for found in combinations.values():
    assert {s.motion for s in found} == set(MOTIONS)
    assert {s.background for s in found} == set(world.BACKGROUNDS)


def test_a_held_out_wording_is_held_out_for_every_object():
  """A training caption with another object's name is one of none."""
  names = [("aaa",), ("bbb",)]
  parts = {
    s: {
      c.caption.replace("bbb", "aaa").replace(c.scene.background, "red")
      for c in scenes.captioned_scenes(names * 20, s)
    }
    for s in scenes.SPLITS
  }
  assert not parts["train"] & parts["wordings"]


def test_captions_are_few_enough_to_be_encoded_once():
  names = [(f"name {i}", f"other {i}", f"third {i}") for i in range(200)]
  total = {
    caption
    for split in scenes.SPLITS
    for caption in scenes.captions(scenes.captioned_scenes(names, split))
  }
  assert 20_000 < len(total) <= scenes.MAX_CAPTIONS


def test_captions_say_what_the_scene_shows():
  for captioned in scenes.captioned_scenes([("owl", "bird")] * 30, "train"):
    scene, text = captioned.scene, captioned.caption
    text = text.replace("becomes tiny", "shrinks")
    assert scene.background in text and scene.background in (
      captioned.image_caption
    )
    assert any(name in text for name in ("owl", "bird"))
    for words, value in (
      (scenes.SIZE_WORDS, scene.motion.size),
      (scenes.SPEED_WORDS, scene.motion.speed),
    ):
      for key, some in words.items():
        # "fast" is a word for quickly, and part of "very fast".
        if key not in ("", value) and (key, value) != ("quickly", "very fast"):
          assert not any(f" {word} " in f" {text} " for word in some)
      assert any(word in text for word in words[value])


@pytest.mark.parametrize(
  ("field", "value", "said"),
  [
    ("split", "test", "unknown data split 'test'"),
    ("config", "zoo", "unknown selection 'zoo'"),
    ("data_dir", "nowhere", "no sprite pack at 'nowhere'"),
  ],
)
def test_what_is_not_there_is_one_line(cfg, field, value, said):
  with pytest.raises(UserError, match=said):
    SpriteSource(dataclasses.replace(cfg, **{field: value}))


def test_evaluation_clips_are_captioned_scenes(sprites):
  clip_set = clips.SceneSet(
    per_object={"train": 2, "wordings": 1},
    selection="all",
    size_px=16,
    num_frames=16,
  )
  assert clip_set.splits == ("train", "wordings")
  infos = pack.read_index(sprites)
  by_name = {motion.name: motion for motion in MOTIONS}
  for split, count in clip_set.per_object.items():
    made = dict(clips.make_clips(clip_set, sprites, split, 0))
    assert len(made) == count * len(infos)
    captioned = scenes.captioned_scenes([i.names for i in infos], split)
    for key, example in made.items():
      scene, caption, image_caption = captioned[int(key.split("/")[1])]
      assert (example["caption"], example["image_caption"]) == (
        caption,
        image_caption,
      )
      assert by_name[example["movement"]] == scene.motion
      assert example["background"] == scene.background
      assert example["emoji"] == infos[scene.object].label
      assert example["video"].shape == (16, 16, 16, 3)
