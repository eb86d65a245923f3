# SPDX-License-Identifier: Apache-2.0
import collections
import dataclasses
import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from lumiere_jax.data import captions, clips, loader, mixture, world
from lumiere_jax.data.draw import Draw
from lumiere_jax.errors import UserError


def _take(cfg, count, **options):
  options = {"stage": "video", "batch_size": 4, "seed": 0} | options
  return list(itertools.islice(loader.make_loader(cfg, **options), count))


def _equal(left, right) -> bool:
  return all(
    np.array_equal(a[k], b[k])
    for a, b in zip(left, right, strict=True)
    for k in ("pixels", "caption")
  )


@pytest.fixture(scope="module")
def train(tiny) -> list[loader.LabelledClip]:
  return list(loader.read_clips(tiny, "train"))


@pytest.fixture(scope="module")
def held_out(tiny) -> list[loader.LabelledClip]:
  return list(loader.read_clips(tiny, "held_out"))


def _combination(clip):
  return clip.emoji, clip.background, clip.movement


def test_the_splits_hold_every_combination_once(train, held_out):
  known = {_combination(clip) for clip in train}
  unseen = {_combination(clip) for clip in held_out}
  assert len(known) == len(train) and len(unseen) == len(held_out)
  assert not known & unseen
  assert len(known | unseen) == 4 * len(world.BACKGROUNDS) * len(
    world.MOVEMENTS
  )


def test_captions_say_what_was_drawn(train, held_out):
  for clip in train + held_out:
    words = sum(captions.MOVEMENT_WORDS[clip.movement], ())
    assert any(word in clip.caption for word in words)
    assert not any(word in clip.image_caption for word in words)
    assert clip.background in clip.caption
    assert clip.background in clip.image_caption
    # The pixels too: some are exactly of the background that was named.
    color = np.asarray(world.BACKGROUNDS[clip.background], np.uint8)
    assert clip.video.shape == (16, 16, 16, 3)
    assert (clip.video == color).all(-1).any((1, 2)).all()


def test_two_builds_and_any_number_of_workers_make_the_same(sprites, held_out):
  clip_set = clips.ClipSet(
    selection="all", size_px=16, num_frames=16, train_clips=1
  )
  alone = list(clips.make_clips(clip_set, sprites, "held_out", 0))
  pooled = list(clips.make_clips(clip_set, sprites, "held_out", 2))
  assert [key for key, _ in alone] == [key for key, _ in pooled]
  stored = {_combination(clip): clip for clip in held_out}
  for (_, one), (_, two) in zip(alone, pooled, strict=True):
    np.testing.assert_array_equal(one["video"], two["video"])
    same = stored[one["emoji"], one["background"], one["movement"]]
    np.testing.assert_array_equal(one["video"], same.video)
    assert one["caption"] == two["caption"] == same.caption
    assert one["phase"] == same.phase


def test_copies_of_a_combination_differ(sprites):
  clip_set = clips.ClipSet(
    selection="all", size_px=16, num_frames=2, train_clips=2
  )
  made = dict(clips.make_clips(clip_set, sprites, "train", 0))
  first = [key for key in made if key.endswith("/0")]
  assert len(made) == 2 * len(first)
  differ = [
    (made[key]["video"] != made[key[:-1] + "1"]["video"]).any() for key in first
  ]
  assert np.mean(differ) > 0.99


def test_video_batches(tiny, train):
  (batch,) = _take(tiny, 1)
  assert batch["pixels"].shape == (4, 16, 16, 16, 3)
  assert batch["pixels"].dtype == np.uint8
  by_caption = {clip.caption: [] for clip in train}
  for clip in train:
    by_caption[clip.caption].append(clip.video)
  for pixels, caption in zip(batch["pixels"], batch["caption"], strict=True):
    assert any(np.array_equal(pixels, v) for v in by_caption[str(caption)])


def test_image_batches_are_single_frames(tiny, train):
  (batch,) = _take(tiny, 1, stage="image", batch_size=32)
  assert batch["pixels"].shape == (32, 16, 16, 3)
  frames = np.concatenate([clip.video for clip in train])
  for pixels in batch["pixels"]:
    assert (frames == pixels).all((1, 2, 3)).any()


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_movements_in_focus_get_their_share(tiny, train, share):
  cfg = dataclasses.replace(tiny, focus=("spins", "grows"), focus_share=share)
  seen = [
    caption
    for batch in _take(cfg, 2, batch_size=200)
    for caption in batch["caption"].tolist()
  ]
  movement = {clip.caption: clip.movement for clip in train}
  counts = collections.Counter(movement[caption] for caption in seen)
  assert set(counts) == set(world.MOVEMENTS)
  in_focus = counts["spins"] + counts["grows"]
  assert in_focus == pytest.approx(share * len(seen), abs=2)
  assert _equal(_take(cfg, 2), _take(cfg, 2))
  assert not _equal(_take(cfg, 2), _take(cfg, 2, seed=1))
  # Every clip of a movement in its turn, not a few again and again.
  number = sum(clip.movement == "spins" for clip in train)
  assert max(collections.Counter(seen).values()) <= 1 + len(seen) // number


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_stills_carry_the_whole_caption_at_the_asked_rate(tiny, train, rate):
  cfg = dataclasses.replace(tiny, motion_caption_rate=rate)
  batches = _take(cfg, 2, stage="image", batch_size=200)
  drawn = np.concatenate([batch["caption"] for batch in batches])
  motion = {clip.caption for clip in train}
  share = np.mean([str(caption) in motion for caption in drawn])
  assert abs(share - rate) < (0.09 if 0 < rate < 1 else 1e-9)


def test_an_epoch_holds_every_clip_and_the_next_is_shuffled_anew(tiny, train):
  first, second = _take(tiny, 2, batch_size=len(train))
  assert sorted(first["caption"]) == sorted(c.caption for c in train)
  assert sorted(first["caption"]) == sorted(second["caption"])
  assert list(first["caption"]) != list(second["caption"])
  (other,) = _take(tiny, 1, batch_size=len(train), seed=1)
  assert list(other["caption"]) != list(first["caption"])


@pytest.mark.parametrize("stage", ["image", "video"])
def test_resume_is_exact(tiny, stage):
  iterator = loader.make_loader(tiny, stage=stage, batch_size=4, seed=3)
  for _ in range(5):
    next(iterator)
  state = iterator.get_state()
  rest = [next(iterator) for _ in range(4)]
  again = loader.make_loader(tiny, stage=stage, batch_size=4, seed=3)
  again.set_state(state)
  assert _equal(rest, [next(again) for _ in range(4)])


def test_workers_change_neither_the_examples_nor_resume(tiny):
  options = {"stage": "image", "batch_size": 4, "seed": 3}
  alone = loader.make_loader(tiny, **options)
  cfg = dataclasses.replace(tiny, num_workers=2)
  iterator = loader.make_loader(cfg, **options)
  expected = [next(alone) for _ in range(6)]
  assert _equal(expected[:3], [next(iterator) for _ in range(3)])
  state = iterator.get_state()
  assert _equal(expected[3:], [next(iterator) for _ in range(3)])
  again = loader.make_loader(cfg, **options)
  again.set_state(state)
  assert _equal(expected[3:], [next(again) for _ in range(3)])


@pytest.mark.parametrize("stage", ["image", "video"])
def test_processes_see_their_rows_of_what_one_would(tiny, stage):
  whole = _take(tiny, 2, stage=stage, batch_size=8)
  for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [1, 2, 6]):
    parts = _take(tiny, 2, stage=stage, batch_size=8, rows=rows)
    for part, batch in zip(parts, whole, strict=True):
      for key in ("pixels", "caption"):
        np.testing.assert_array_equal(part[key], batch[key][rows])


def test_another_order_is_kept_in_the_position(tiny):
  options = {"stage": "video", "batch_size": 4, "seed": 0}
  straight = loader.make_loader(tiny, **options)
  first = [next(straight) for _ in range(4)]
  other = loader.make_loader(tiny, **options)
  next(other), next(other)
  other.reorder()
  third = next(other)
  assert not _equal([third], first[2:3])
  resumed = loader.make_loader(tiny, **options)
  resumed.set_state(json.loads(json.dumps(other.get_state())))
  assert _equal([next(resumed)], [next(other)])


def test_the_listed_captions_are_those_of_the_split(tiny, train, held_out):
  for split, examples in (("train", train), ("held_out", held_out)):
    listed = loader.captions(dataclasses.replace(tiny, split=split))
    used = {c.caption for c in examples} | {c.image_caption for c in examples}
    assert listed == sorted(used)


def test_reading_stops_at_the_limit(tiny, train):
  some = list(loader.read_clips(tiny, "train", 5))
  assert [c.caption for c in some] == [c.caption for c in train[:5]]
  assert list(loader.read_clips(tiny, "train", 0)) == []


def test_the_fingerprint_tells_datasets_apart(tiny, tmp_path):
  folder = tmp_path / "emoji_motion" / "tiny" / "1.0.0"
  folder.mkdir(parents=True)
  for path in loader.dataset_folder(tiny).glob("*.json"):
    text = path.read_text(encoding="utf-8").replace("dolphin", "whale")
    (folder / path.name).write_text(text, encoding="utf-8")
  other = dataclasses.replace(tiny, data_dir=str(tmp_path))
  assert re.fullmatch("[0-9a-f]{16}", loader.fingerprint(tiny))
  assert loader.fingerprint(tiny) == loader.fingerprint(tiny)
  assert loader.fingerprint(tiny) != loader.fingerprint(other)


def test_the_built_folder_carries_the_attribution(tiny, tmp_path):
  text = loader.attribution(tiny)
  assert "Microsoft" in text and "MIT" in text and "emojibase" in text
  folder = tmp_path / loader.dataset_folder(tiny).relative_to(tiny.data_dir)
  folder.mkdir(parents=True)
  (folder / "dataset_info.json").write_text("{}")
  with pytest.raises(UserError, match=r"ATTRIBUTION\.md: No such"):
    loader.attribution(dataclasses.replace(tiny, data_dir=str(tmp_path)))


def test_mistakes_are_one_clear_line(tiny, tmp_path):
  absent = dataclasses.replace(tiny, data_dir=str(tmp_path))
  with pytest.raises(UserError, match=r"lumiere_jax\.data\.write .*=tiny"):
    loader.captions(absent)
  wrong_split = dataclasses.replace(tiny, split="tain")
  with pytest.raises(UserError, match="did you mean 'train'"):
    _take(wrong_split, 1)
  with pytest.raises(UserError, match="did you mean 'train'"):
    loader.captions(wrong_split)
  with pytest.raises(UserError, match="choices: image, video"):
    _take(tiny, 1, stage="stills")
  with pytest.raises(UserError, match=r"no movement .spin. \(did you mean"):
    _take(dataclasses.replace(tiny, focus=("spin",)), 1)
  with pytest.raises(UserError, match="leaves no other movement"):
    _take(dataclasses.replace(tiny, focus=world.MOVEMENTS), 1)
  with pytest.raises(UserError, match=r"data\.size_px=32"):
    _take(dataclasses.replace(tiny, size_px=32), 1)


def test_reading_needs_no_tfds_and_building_no_tensorflow(
  tiny, sprites, tmp_path
):
  code = f"""
import sys
from lumiere_jax.config import DataConfig
from lumiere_jax.data import loader, write
cfg = DataConfig(data_dir={tiny.data_dir!r}, config="tiny", num_frames=16,
                 size_px=16)
next(loader.make_loader(cfg, stage="video", batch_size=2, seed=0))
assert not {{"tensorflow", "tensorflow_datasets"}} & set(sys.modules)
write.build("tiny", {str(sprites)!r}, {str(tmp_path)!r})
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def _is_part(part, clip) -> bool:
  windows = np.lib.stride_tricks.sliding_window_view(clip, part.shape)
  return bool((windows == part).all(axis=(-4, -3, -2, -1)).any())


@pytest.mark.parametrize("stage", ["video", "image"])
def test_training_sees_parts_drawn_anywhere(tiny, train, stage):
  cfg = dataclasses.replace(tiny, segment_frames=4, crop_px=8)
  size = (4, 8, 8, 3) if stage == "video" else (8, 8, 3)
  by_caption = collections.defaultdict(list)
  for clip in train:
    by_caption[clip.caption] += [clip.video]
    by_caption[clip.image_caption] += [clip.video]
  for batch in _take(cfg, 3, stage=stage):
    assert batch["pixels"].shape == (4, *size)
    for part, caption in zip(batch["pixels"], batch["caption"], strict=True):
      whole = part if stage == "video" else part[None]
      assert any(_is_part(whole, clip) for clip in by_caption[str(caption)])


def test_parts_are_drawn_from_the_first_place_to_the_last(tiny):
  cfg = dataclasses.replace(tiny, segment_frames=14, crop_px=15)
  place = np.stack(np.meshgrid(*map(range, (16, 16, 16)), indexing="ij"), -1)
  draw = Draw(mixture.open_sources(cfg), cfg, "video")
  rng = np.random.default_rng(0)
  starts = {
    tuple(draw._cut(place, (14, 15, 15), rng)[0, 0, 0]) for _ in range(99)
  }
  assert starts == set(itertools.product(range(3), range(2), range(2)))


def test_the_drawing_is_part_of_the_resumed_state(tiny):
  cfg = dataclasses.replace(tiny, segment_frames=4, crop_px=8)
  options = {"stage": "video", "batch_size": 4, "seed": 0}
  batches = loader.make_loader(cfg, **options)
  next(batches)
  state = batches.get_state()
  wanted = [next(batches) for _ in range(2)]
  again = loader.make_loader(cfg, **options)
  again.set_state(state)
  assert _equal(wanted, [next(again) for _ in range(2)])
