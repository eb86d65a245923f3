# SPDX-License-Identifier: Apache-2.0
"""Shards as they are read, whole and damaged."""

import json
import os

import numpy as np
import pytest

from lumiere_jax import media
from lumiere_jax.config import DataConfig, SourceConfig
from lumiere_jax.data import built, draw, loader, prepare, shards
from lumiere_jax.data.built import BuiltSource
from lumiere_jax.data.folder import open_folder
from lumiere_jax.data.prepare import Recipe
from lumiere_jax.data.shards import ShardSource
from lumiere_jax.data.source import take
from lumiere_jax.errors import UserError
from lumiere_jax.media import Unusable
from tests import video_files

SHARDS = 2


def write(source, out):
  """Writes shards without a pipeline; returns the tasks."""
  tasks = prepare.plan_shards(source, SHARDS, Recipe(), None)
  numbers = {source.name(i): i for i in range(len(source))}
  counts = []
  for task in tasks:
    made = prepare.write_shard(task, numbers, source, Recipe(), None, out)
    counts.append(made["written"])
  about = {"format": shards.FORMAT, "counts": counts, "text": None}
  (out / shards.DESCRIPTION).write_text(
    json.dumps(about | {"fingerprint": "0"})
  )
  return tasks


@pytest.fixture
def folder(tmp_path):
  made = tmp_path / "shards"
  made.mkdir()
  clips = tmp_path / "clips"
  clips.mkdir()
  for n in range(6):
    path = video_files.write_video(clips / f"v{n}.mp4", seconds=1.2)
    path.with_suffix(".txt").write_text(f"the clip {n}")
  write(_clips(clips), made)
  return made


def _clips(folder):
  return open_folder(SourceConfig(kind="folder", data_dir=str(folder)))


def _source(folder):
  return ShardSource(SourceConfig(kind="shards", data_dir=str(folder)))


def _config(folder):
  return DataConfig(
    kind="shards",
    data_dir=str(folder),
    num_frames=8,
    fps=8,
    size_px=16,
    max_broken_share=0.9,
  )


def _damage(path, at, length=100):
  data = bytearray(path.read_bytes())
  at = data.index(at) if isinstance(at, bytes) else at
  data[at : at + length] = bytes(byte ^ 0x55 for byte in data[at : at + length])
  path.write_bytes(data)


def test_a_damaged_record_is_skipped_and_counted(folder, capsys):
  _damage(folder / "clips-00000-of-00002.array_record", b"mdat")
  made = loader.make_loader(
    _config(folder), stage="video", batch_size=4, seed=0
  )
  for _ in range(5):
    assert next(made)["pixels"].any()
  assert set(made.ledger.broken) == {"unreadable"}
  assert capsys.readouterr().err.count("skipped ") == 1


def test_a_damaged_record_is_left_out_of_other_shards(folder, tmp_path):
  _damage(folder / "clips-00000-of-00002.array_record", b"mdat")
  out = tmp_path / "again"
  out.mkdir()
  write(_source(folder), out)
  abouts = [json.loads(p.read_text()) for p in out.glob("clips-*.json")]
  assert sum(len(about["clips"]) for about in abouts) == 5
  (dropped,) = [drop for about in abouts for drop in about["dropped"]]
  assert dropped[1] == "unreadable"


@pytest.mark.parametrize("what", ["cut", "end"])
def test_a_damaged_shard_is_named_in_one_line(folder, what):
  path = folder / "clips-00001-of-00002.array_record"
  if what == "cut":
    path.write_bytes(path.read_bytes()[:5000])
  else:
    _damage(path, 65536, 200)
  with pytest.raises(UserError, match=rf"{path} is damaged \(") as caught:
    _source(folder)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", '{"format": 1, "text": null}', "{"])
def test_a_damaged_description_is_one_line(folder, text):
  (folder / shards.DESCRIPTION).write_text(text)
  with pytest.raises(UserError, match=r"description\.json"):
    _source(folder)


def test_names_of_all_records_read_each_list_once(folder, monkeypatch):
  read, inner = [], shards.read_json

  def counting(path):
    read.append(path)
    return inner(path)

  monkeypatch.setattr(shards, "read_json", counting)
  source = _source(folder)
  names = [source.name(i) for i in range(len(source))]
  assert sorted(names) == [f"v{n}.mp4" for n in range(6)]
  assert len(read) == SHARDS


def test_stored_frames_that_are_damaged_are_skipped(tiny):
  source = BuiltSource(tiny, "held_out")
  frames = source[0].media
  for data in (b"no zlib", frames.data[: len(frames.data) // 8]):
    with pytest.raises(Unusable, match="damaged"):
      draw.pixels_of(data, frames.shape)
    with pytest.raises(Unusable, match="damaged"):
      draw.frame_of(data, frames.shape, frames.shape[0] - 1)
  whole = draw.pixels_of(*frames)
  np.testing.assert_array_equal(draw.frame_of(*frames, 5), whole[5])


def test_stamps_of_a_built_data_set_read_its_files_once(tiny, monkeypatch):
  hashes, inner = [], built.hashlib.sha256

  def counting():
    hashes.append(1)
    return inner()

  monkeypatch.setattr(built.hashlib, "sha256", counting)
  source = BuiltSource(tiny, "held_out")
  assert len({source.stamp(i) for i in range(4)}) == 1
  assert len(hashes) == 1


def test_names_that_are_not_utf8_can_be_used(tmp_path):
  clips = tmp_path / "clips"
  clips.mkdir()
  name = os.fsdecode(b"v\xff.mp4")
  video_files.write_video(clips / "v.mp4", seconds=1.2)
  (clips / "v.mp4").rename(clips / name)
  (clips / name).with_suffix(".txt").write_text("the clip")
  source = _clips(clips)
  assert len(source.fingerprint()) == 16
  out = tmp_path / "out"
  out.mkdir()
  write(source, out)
  made = _source(out)
  assert made.name(0) == name and made[0].caption == "the clip"
  assert made[0].media == (clips / name).read_bytes()


def test_odd_entries_of_a_list_are_skipped(tmp_path):
  (tmp_path / "l.jsonl").write_text(
    '{"file": "a\\u0000.mp4", "caption": "x"}\n'
    '{"file": "b.mp4", "caption": "half of \\ud83d"}\n'
  )
  source = _clips(tmp_path)
  assert len(source.fingerprint()) == 16
  assert "half of ?" in source.captions()
  wish = media.Wish(num_frames=1, fps=1, size=(8, 8))
  for index in range(2):
    with pytest.raises(Unusable, match="missing"):
      media.read_segment(take(source, index).media, wish)
