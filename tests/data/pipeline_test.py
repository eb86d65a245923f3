# SPDX-License-Identifier: Apache-2.0
"""Folders of real clips, some of them damaged, to shards and back."""

import dataclasses
import errno
import json
import os
import sys

import numpy as np
import pytest

from lumiere_jax import feed, media
from lumiere_jax.config import (
  Config,
  DataConfig,
  SourceConfig,
  TextConfig,
  TrainConfig,
  UNetConfig,
)
from lumiere_jax.data import loader, pipeline, prepare, write
from lumiere_jax.data.prepare import Job, Recipe
from lumiere_jax.data.shards import ShardSource
from lumiere_jax.errors import UserError
from tests import video_files
from tests.data import clip_folder
from tests.text.hash_encoder import HashTextEncoder

pytest.importorskip("apache_beam")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
  folder = clip_folder.make(tmp_path_factory.mktemp("clips") / "of")
  (folder / "ATTRIBUTION.md").write_text("made by a test")
  return folder


def _job(clips, out, **fields):
  out.mkdir(exist_ok=True)
  source = SourceConfig(kind="folder", data_dir=str(clips))
  recipe = fields.pop("recipe", Recipe(min_seconds=1.0))
  fields = {"num_shards": 3} | fields
  return Job(source=source, out=str(out), recipe=recipe, **fields)


TEXT = {"encoder": "minilm", "lower_case": False, "max_tokens": 6, "width": 8}


@pytest.fixture(scope="module")
def shards(clips, tmp_path_factory):
  out = tmp_path_factory.mktemp("shards") / "of"
  job = _job(clips, out, make_encoder=HashTextEncoder, text=TEXT)
  return out, pipeline.run(job)


def _source(folder):
  return ShardSource(SourceConfig(kind="shards", data_dir=str(folder)))


def test_the_report_says_what_became_of_every_item(shards):
  out, report = shards
  assert report == json.loads((out / "report.json").read_text())
  assert report["items"] == len(clip_folder.GOOD) + len(clip_folder.BROKEN)
  assert report["videos"] == len(clip_folder.GOOD)
  assert {d["name"]: d["reason"] for d in report["dropped_items"]} == (
    clip_folder.BROKEN
  )
  assert report["dropped"] == dict.fromkeys(clip_folder.BROKEN.values(), 1)
  assert report["seconds"]["median"] == pytest.approx(1.2, abs=0.05)
  assert report["fps"] == {"25": 8} and report["sizes"] == {"48x32": 8}
  assert report["codecs"] == {"h264": 7, "mpeg4": 1}
  assert report["shards"] == report["shards_written_now"] == 3
  assert not list(out.glob(".*"))


def test_shards_hold_the_files_as_they_are_and_encoded_captions(clips, shards):
  source = _source(shards[0])
  encoder = HashTextEncoder()
  seen = {}
  for index in range(len(source)):
    item, name = source[index], source.name(index)
    assert item.media == (clips / name).read_bytes()
    assert item.caption == clip_folder.caption(name)
    features, mask = encoder.encode([item.caption])
    np.testing.assert_array_equal(item.text.features, features[0])
    np.testing.assert_array_equal(item.text.mask, mask[0])
    seen[name] = item.caption
  assert sorted(seen) == sorted(clip_folder.GOOD)
  assert source.captions() == sorted(seen.values())
  assert source.attribution() == "made by a test"
  assert source.text == TEXT


def test_a_pipeline_run_again_writes_nothing_again(clips, shards):
  out, report = shards
  before = {path: path.stat().st_mtime_ns for path in out.glob("clips-*")}
  job = _job(clips, out, make_encoder=HashTextEncoder, text=TEXT, num_shards=0)
  again = pipeline.run(job)
  assert again == report | {"shards_written_now": 0}
  assert before == {p: p.stat().st_mtime_ns for p in out.glob("clips-*")}


def _states(out):
  return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}


def test_a_pipeline_that_was_killed_goes_on(clips, tmp_path, monkeypatch):
  whole = tmp_path / "whole"
  pipeline.run(_job(clips, whole))
  out = tmp_path / "out"
  calls, inner = [], prepare.prepared

  def dying(item, recipe):
    calls.append(item)
    if len(calls) == 7:
      raise KeyboardInterrupt
    return inner(item, recipe)

  monkeypatch.setattr(prepare, "prepared", dying)
  with pytest.raises(BaseException, match=r"KeyboardInterrupt|^$"):
    pipeline.run(_job(clips, out))
  assert not (out / "description.json").exists()
  assert not list(out.glob(".*"))
  done = {p.stem for p in out.glob("clips-*.json")}
  assert 0 < len(done) < 3
  with pytest.raises(UserError, match=r"data\.write makes it last"):
    _source(out)
  monkeypatch.setattr(prepare, "prepared", inner)
  report = pipeline.run(_job(clips, out))
  assert report["shards_written_now"] == 3 - len(done)
  mine, theirs = _states(out), _states(whole)
  assert mine.pop("report.json") != theirs.pop("report.json")
  assert mine == theirs


def test_what_changes_is_written_anew_and_nothing_else(
  clips, tmp_path, monkeypatch
):
  out, folder = tmp_path / "out", tmp_path / "clips"
  folder.mkdir()
  for name in ("a", "b", "c", "d"):
    os.link(clips / "sub" / "v0.mp4", folder / f"{name}.mp4")
    (folder / f"{name}.txt").write_text(name)
  job = _job(folder, out, num_shards=4)
  pipeline.run(job)
  first = _source(out).fingerprint()
  (folder / "c.txt").write_text("another caption")
  assert pipeline.run(job)["shards_written_now"] == 1
  assert _source(out).fingerprint() != first
  assert "another caption" in _source(out).captions()
  other = _job(folder, out, num_shards=4, recipe=Recipe(min_seconds=0.5))
  assert pipeline.run(other)["shards_written_now"] == 4
  monkeypatch.setattr(prepare, "prepared", None)
  with pytest.raises(TypeError):
    pipeline.run(job)
  # What there was is no more, and is not taken for whole.
  with pytest.raises(UserError, match=r"description\.json"):
    _source(out)
  with pytest.raises(UserError, match=r"of 4, not of 2: give --num_shards=4"):
    pipeline.run(_job(folder, out, num_shards=2))


def test_what_a_killed_pipeline_left_is_removed(clips, tmp_path):
  out = tmp_path / "out"
  job = _job(clips, out)
  left = out / ".clips-00000-of-00003.array_record.0a0a0a0a.tmp"
  left.write_bytes(b"half")
  pipeline.run(job)
  assert not list(out.glob(".*"))


@pytest.mark.parametrize("share", [0, 0.4])
def test_a_shard_whose_records_are_damaged_is_written_anew(
  clips, tmp_path, share
):
  job = _job(clips, tmp_path / "out")
  pipeline.run(job)
  path = tmp_path / "out" / "clips-00001-of-00003.array_record"
  whole = path.read_bytes()
  video_files.cut_off(path, share)
  with pytest.raises(
    UserError, match=r"is damaged .*data\.write makes it anew"
  ):
    _source(tmp_path / "out")
  assert pipeline.run(job)["shards_written_now"] == 1
  assert path.read_bytes() == whole


def test_what_no_record_can_hold_is_left_out(clips, tmp_path, monkeypatch):
  largest = max((clips / name).stat().st_size for name in clip_folder.GOOD)
  monkeypatch.setattr(prepare, "MOST_BYTES", largest - 1)
  report = pipeline.run(_job(clips, tmp_path / "out"))
  assert report["dropped"]["too large"] >= 1
  assert report["videos"] + report["dropped"]["too large"] == 8


def test_a_full_disk_is_one_line_and_blames_no_video(
  clips, tmp_path, monkeypatch, capfd
):
  def full(*args, **options):
    raise OSError(errno.ENOSPC, "No space left on device")

  job = _job(clips, tmp_path / "out", recipe=Recipe(short_px=16))
  with monkeypatch.context() as patch:
    patch.setattr(sys.modules[media.transcode.__module__], "encode_mp4", full)
    with pytest.raises(UserError, match=r"^no space left on the disk of") as e:
      pipeline.run(job)
  assert "\n" not in str(e.value) and "Traceback" not in capfd.readouterr().err
  assert pipeline.run(job)["videos"] == 9  # The short one is one of them.


def test_a_mistake_leaves_the_text_store_as_it_is(clips, tmp_path):
  def never():
    raise AssertionError("what lies there would be replaced")

  job = _job(clips, tmp_path / "out")
  pipeline.run(job)
  with pytest.raises(UserError, match="give --num_shards=3"):
    pipeline.run(dataclasses.replace(job, num_shards=2), (), never)
  with pytest.raises(UserError, match="unknown argument '--runer'"):
    pipeline.run(job, ["--runer=DirectRunner"], never)


def test_videos_are_encoded_anew(clips, tmp_path):
  recipe = Recipe(short_px=16, fps=8.0, min_seconds=1.0)
  report = pipeline.run(_job(clips, tmp_path / "o", recipe=recipe))
  assert report["fps"] == {"8": 8} and report["sizes"] == {"24x16": 8}
  assert report["codecs"] == {"h264": 8}
  source = _source(tmp_path / "o")
  wish = media.Wish(num_frames=8, fps=8, size=(16, 24))
  for index in range(len(source)):
    small = media.read_segment(source[index].media, wish)
    own = media.read_segment(str(clips / source.name(index)), wish)
    levels = [c[:, :, -4:].mean(axis=(1, 2, 3)) for c in (small, own)]
    np.testing.assert_allclose(*levels, atol=5)


def test_a_turned_and_damaged_video_encoded_anew(tmp_path):
  path = video_files.turn(video_files.write_video(tmp_path / "v.mp4"))
  facts = media.transcode(path, tmp_path / "o.mp4", short_px=16, fps=5)
  assert (facts.height, facts.width) == (24, 16)
  assert facts.seconds == pytest.approx(4.0, abs=0.21)
  noise = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8)
  media.write_mp4(tmp_path / "n.mp4", noise, 16)
  cut = video_files.cut_off(tmp_path / "n.mp4", 0.6)
  with pytest.raises(media.Unusable, match="damaged"):
    media.transcode(cut, tmp_path / "p.mp4", fps=5)


def test_stored_frames_and_images_become_shards_too(tiny, tmp_path):
  out = tmp_path / "out"
  out.mkdir()
  source = SourceConfig(
    kind="built", data_dir=tiny.data_dir, config="tiny", split="held_out"
  )
  job = Job(source=source, out=str(out), recipe=Recipe(crf=4))
  report = pipeline.run(job)
  clips = list(loader.read_clips(tiny, "held_out"))
  assert report["videos"] == len(clips) and report["fps"] == {"16": len(clips)}
  assert {c.caption for c in clips} == set(_source(out).captions())
  (tmp_path / "i").mkdir()
  images = clip_folder.make_images(tmp_path / "i" / "of")
  source = SourceConfig(kind="folder", data_dir=str(images), media="image")
  other = tmp_path / "images"
  other.mkdir()
  recipe = Recipe(short_px=12)
  report = pipeline.run(Job(source=source, out=str(other), recipe=recipe))
  assert report["images"] == 3 and report["videos"] == 0
  item = _source(other)[0]
  assert item.still
  still = media.read_image(item.media).pixels
  assert still.shape == (12, 12, 3)
  assert still.mean() == pytest.approx(30 + 60 * int(item.caption[-1]), abs=2)


class NoEncoder(HashTextEncoder):
  """Encodes the empty caption alone."""

  def encode(self, captions):
    assert set(captions) <= {""}
    return super().encode(captions)

  def prepare(self, captions):
    raise AssertionError("nothing needs encoding")


def test_training_takes_the_encoded_captions(shards):
  def batches(**text):
    cfg = Config(
      model=UNetConfig(encoder_hid_dim=8),
      data=DataConfig(kind="shards", data_dir=str(shards[0]), fps=8),
      text=TextConfig(**({"max_tokens": 6} | text)),
      train=TrainConfig(batch_size=4),
    )
    return feed.train_batches(cfg, NoEncoder())

  batch = next(batches())
  assert set(batch) == {"pixels", "text", "mask"}
  assert batch["pixels"].shape == (4, 32, 32, 3)
  assert batch["text"].shape == (4, 6, 8) and batch["text"].dtype == np.float16
  assert batch["mask"].any()
  for field, value in (("max_tokens", 7), ("lower_case", True)):
    with pytest.raises(UserError, match=rf"encoded with text\.{field}="):
      batches(**{field: value})


def test_where_nothing_can_be_used_there_is_a_report(tmp_path):
  for name in ("a", "b"):
    (tmp_path / f"{name}.mp4").touch()
    (tmp_path / f"{name}.txt").write_text("x")
  with pytest.raises(UserError, match="none of 2 items can be used"):
    pipeline.run(_job(tmp_path, tmp_path / "out"))
  report = json.loads((tmp_path / "out" / "report.json").read_text())
  assert report["dropped"] == {"empty": 2}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--src=x"], "needs --src=FOLDER and --out=FOLDER"),
    (["--src=nowhere", "--out=OUT"], "data_dir='nowhere' is no folder"),
    (["--src=CLIPS", "--out=OUT", "--short_pix=9"], "mean 'short_px'"),
    (["--src=CLIPS", "--out=OUT", "--num_shards=-1"], "must be >= 0"),
    (["--src=CLIPS", "--out=OUT", "--crf=77"], r"--crf=77 must be in 0\.\.51"),
    (["--src=CLIPS", "--out=OUT", "--config.a=1"], "needs --text_config"),
    (["--src=CLIPS", "--out=OUT", "--text_config=no.py"], "no config file"),
    (["--src=CLIPS", "--out=OUT", "--kind=foldr"], "invalid choice: 'foldr'"),
    (["--src=CLIPS", "--out=OUT", "more"], "unknown argument 'more'"),
    (
      ["--src=CLIPS", "--out=OUT", "--direct_num_workers=two"],
      "argument --direct_num_workers: invalid int value: 'two'",
    ),
    (
      ["--src=CLIPS", "--out=OUT", "--runner=Nobody"],
      "Apache Beam: Unexpected pipeline runner: Nobody",
    ),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(
  clips, tmp_path, flags, message
):
  out = tmp_path / "new" / "out"
  flags = [f.replace("CLIPS", str(clips)) for f in flags]
  flags = [f.replace("OUT", str(out)) for f in flags]
  with pytest.raises(UserError, match=message) as caught:
    write.main(["--dataset=shards", *flags])
  assert "\n" not in str(caught.value)
  assert not out.parent.exists()


def test_without_beam_the_extra_is_named(clips, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "apache_beam", None)
  with pytest.raises(UserError, match=r"pip install 'lumiere_jax\[data\]'"):
    write.main(
      ["--dataset=shards", f"--src={clips}", f"--out={tmp_path / 'o'}"]
    )


@pytest.mark.full
def test_several_worker_processes_write_the_same(clips, tmp_path):
  alone = tmp_path / "alone"
  pipeline.run(_job(clips, alone))
  many = tmp_path / "many"
  flags = "--direct_num_workers=2", "--direct_running_mode=multi_processing"
  write.main(
    [
      "--dataset=shards",
      f"--src={clips}",
      f"--out={many}",
      "--num_shards=3",
      "--min_seconds=1",
      *flags,
    ]
  )
  assert _states(many) == _states(alone)
