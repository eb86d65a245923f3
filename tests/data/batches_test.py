# SPDX-License-Identifier: Apache-2.0
"""Training batches of encoded clips: order, position, what is broken."""

import dataclasses
import itertools
import json

import numpy as np
import pytest

from lumiere_jax.config import DataConfig, SourceConfig
from lumiere_jax.data import batches, draw, loader
from lumiere_jax.data.batches import Ledger
from lumiere_jax.errors import UserError
from tests.data import clip_folder


@pytest.fixture(scope="module")
def cfg(tmp_path_factory) -> DataConfig:
  folder = clip_folder.make(tmp_path_factory.mktemp("clips") / "of")
  return DataConfig(
    kind="folder",
    data_dir=str(folder),
    num_frames=8,
    fps=8,
    size_px=16,
    crop="random",
    max_broken_share=0.9,
  )


def _make(cfg, index=0, count=1, stage="video", total=4):
  return loader.make_loader(
    cfg,
    stage=stage,
    batch_size=total,
    seed=3,
    rows=range(total)[index::count],
  )


def _read(cfg, count, shards=1, start=0, **options):
  """Global batches, put together of those of all shards."""
  parts = [_make(cfg, i, shards, **options) for i in range(shards)]
  for part in parts:
    part.set_state({"batches": start})
  for _ in range(count):
    whole = [next(part) for part in parts]
    yield {
      key: np.stack([p[key] for p in whole], 1).reshape(
        -1, *whole[0][key].shape[1:]
      )
      for key in ("pixels", "caption")
    }


def _assert_equal(left, right):
  for a, b in zip(left, right, strict=True):
    np.testing.assert_array_equal(a["pixels"], b["pixels"])
    assert a["caption"].tolist() == b["caption"].tolist()


@pytest.fixture(scope="module")
def reference(cfg):
  return list(_read(cfg, 6))


def test_every_batch_is_whole_and_of_what_is_good(reference):
  good = {clip_folder.caption(name) for name in clip_folder.GOOD}
  seen = {str(c) for batch in reference for c in batch["caption"]}
  assert seen <= good and len(seen) > 4
  for batch in reference:
    assert batch["pixels"].shape == (4, 8, 16, 16, 3)
    assert batch["pixels"].dtype == np.uint8
    # Time goes on in each of them.
    levels = batch["pixels"].mean(axis=(2, 3, 4))
    assert (np.diff(levels, axis=1) > 2).all()


def test_what_a_position_gives_is_of_the_seed_alone(cfg, reference):
  _assert_equal(reference, _read(cfg, 6))
  other = loader.make_loader(cfg, stage="video", batch_size=4, seed=4)
  assert (next(other)["pixels"] != reference[0]["pixels"]).any()
  # Starts and crops are drawn anew in the next epoch.
  many = [b["pixels"][i] for b in _read(cfg, 12) for i in range(4)]
  assert len({pixels.tobytes() for pixels in many}) > 40


@pytest.mark.parametrize("shards", [2, 4])
def test_the_number_of_processes_changes_nothing(cfg, reference, shards):
  _assert_equal(reference, _read(cfg, 6, shards))
  _assert_equal(reference[3:], _read(cfg, 3, shards, start=3))


def test_position_is_one_number_for_all_processes_and_workers(cfg, reference):
  first = _make(cfg, 1, 4)
  for _ in range(2):
    next(first)
  state = json.loads(json.dumps(first.get_state()))
  assert state["batches"] == 2
  workers = dataclasses.replace(cfg, num_workers=2)
  resumed = _make(workers)
  resumed.set_state(state)
  _assert_equal(reference[2:4], itertools.islice(resumed, 2))
  assert resumed.get_state()["batches"] == 4
  again = _make(cfg, 1, 2)
  again.set_state(resumed.get_state())
  half = next(again)
  np.testing.assert_array_equal(half["pixels"], reference[4]["pixels"][1::2])


def test_the_position_of_an_earlier_version_is_refused(cfg):
  with pytest.raises(UserError, match="earlier version"):
    _make(cfg).set_state({"next_index": 3})


def test_broken_files_are_counted_and_each_is_told_once(cfg, capsys):
  made = _make(cfg)
  for _ in range(20):
    next(made)
  ledger = made.ledger
  assert set(ledger.broken) == set(clip_folder.BROKEN.values())
  broken = sum(ledger.broken.values())
  assert ledger.drawn == 80 + broken
  # Four of twelve.
  assert broken / ledger.drawn == pytest.approx(1 / 3, abs=0.12)
  said = capsys.readouterr().err
  for name, reason in clip_folder.BROKEN.items():
    assert said.count(f"skipped {name}: {reason} (") == 1
  again = _make(cfg)
  again.set_state(made.get_state())
  assert again.ledger.broken == ledger.broken
  assert again.ledger.drawn == ledger.drawn


def test_too_many_broken_files_stop_the_run(cfg):
  made = _make(dataclasses.replace(cfg, max_broken_share=0.05))
  with pytest.raises(
    UserError, match=r"data\.max_broken_share=0\.05"
  ) as caught:
    for _ in range(batches.ENOUGH):
      next(made)
  assert made.ledger.drawn >= batches.ENOUGH
  for reason in clip_folder.BROKEN.values():
    assert f"{reason}: " in str(caught.value)
  none = _make(dataclasses.replace(cfg, max_broken_share=0.0))
  with pytest.raises(UserError, match=r"^[1-4] of .*max_broken_share=0\.0"):
    for _ in range(batches.ENOUGH):
      next(none)


def test_where_nothing_is_good_it_stops_at_once(tmp_path):
  for number in range(3):
    (tmp_path / f"{number}.mp4").touch()
    (tmp_path / f"{number}.txt").write_text("x")
  cfg = DataConfig(
    kind="folder",
    data_dir=str(tmp_path),
    num_frames=8,
    size_px=16,
    max_broken_share=1.0,
  )
  with pytest.raises(UserError, match=rf"empty: {draw.TRIES}"):
    next(_make(cfg))


def test_the_share_is_that_of_what_was_drawn_last():
  ledger = Ledger(0.1)
  bad = json.dumps([["a", "empty", ""]])
  for _ in range(5 * batches.WINDOW):
    ledger.add("")
  with pytest.raises(UserError, match=r"of the last 2000 items .*empty: 20"):
    for _ in range(batches.WINDOW):
      ledger.add(bad)
  few = Ledger(0.1)
  for _ in range(batches.ENOUGH // 2 - 1):
    few.add(bad)  # Half of all, and yet too few to say.


def test_stills_of_clips(cfg):
  (batch,) = _read(cfg, 1, stage="image", total=12)
  assert batch["pixels"].shape == (12, 16, 16, 3)
  assert len(set(batch["pixels"].mean(axis=(1, 2, 3)).round())) > 6


def test_the_start_may_be_fixed(cfg):
  begin = dataclasses.replace(cfg, start="begin", crop="center")
  by_caption = {}
  for batch in _read(begin, 8):
    for caption, pixels in zip(batch["caption"], batch["pixels"], strict=True):
      same = by_caption.setdefault(str(caption), pixels)
      np.testing.assert_array_equal(same, pixels)
  firsts = np.stack([pixels[0].mean() for pixels in by_caption.values()])
  assert firsts.max() < 20
  middle = dataclasses.replace(begin, start="middle")
  (batch,) = _read(middle, 1)
  assert (batch["pixels"][:, 0].mean(axis=(1, 2, 3)) > 25).all()


def test_parts_of_frames_are_cut_while_decoding(cfg):
  part = dataclasses.replace(cfg, crop_px=8, segment_frames=4, crop="stretch")
  (batch,) = _read(part, 1)
  assert batch["pixels"].shape == (4, 4, 8, 8, 3)


@pytest.fixture(scope="module")
def mixed(cfg, tmp_path_factory):
  folder = clip_folder.make_images(tmp_path_factory.mktemp("images") / "of")
  sources = (
    SourceConfig(kind="folder", data_dir=cfg.data_dir, weight=3.0),
    SourceConfig(kind="folder", data_dir=str(folder), media="image"),
  )
  return dataclasses.replace(cfg, sources=sources)


@pytest.mark.parametrize("stage", ["video", "image"])
def test_stills_and_clips_in_one_run_by_their_weights(mixed, stage):
  seen = list(_read(mixed, 10, stage=stage))
  captions = np.concatenate([batch["caption"] for batch in seen])
  still = np.char.startswith(captions.astype(str), "image")
  # Those drawn in place of broken clips are clips.
  assert still.mean() == pytest.approx(1 / 4, abs=0.03)
  pixels = np.concatenate([batch["pixels"] for batch in seen])[still]
  level = [30 + 60 * int(c[-1]) for c in captions[still]]
  if stage == "video":
    # A still is a clip in which nothing moves.
    assert (pixels == pixels[:, :1]).all()
    pixels = pixels[:, 0]
  np.testing.assert_array_equal(pixels.mean(axis=(1, 2, 3)), level)
  _assert_equal(seen[5:], _read(mixed, 5, 2, start=5, stage=stage))


def test_a_mixture_says_of_all_its_parts(mixed, cfg):
  clips, images = (
    dataclasses.replace(cfg, data_dir=part.data_dir, media=part.media)
    for part in mixed.sources
  )
  both = set(loader.captions(clips)) | set(loader.captions(images))
  assert loader.captions(mixed) == sorted(both)
  heavier = dataclasses.replace(mixed.sources[1], weight=2.0)
  other = dataclasses.replace(mixed, sources=(mixed.sources[0], heavier))
  prints = [loader.fingerprint(c) for c in (mixed, clips, images, other)]
  assert len(set(prints)) == 4
