# SPDX-License-Identifier: Apache-2.0
"""Pixels survive the conversion, and clips the way through files."""

import os
import subprocess
import sys
from fractions import Fraction

import av
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lumiere_jax import media
from lumiere_jax.errors import UserError
from lumiere_jax.media import files

COLORS = {
  "red": (255, 0, 0),
  "green": (0, 255, 0),
  "blue": (0, 0, 255),
  "yellow": (255, 255, 0),
  "magenta": (255, 0, 255),
  "cyan": (0, 255, 255),
  "orange": (255, 128, 0),
  "lime": (128, 255, 0),
  "spring": (0, 255, 128),
  "azure": (0, 128, 255),
  "violet": (128, 0, 255),
  "rose": (255, 0, 128),
}


def noise(*shape):
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_every_level_survives_the_conversion():
  levels = np.arange(256, dtype=np.uint8)
  for convert in (np.asarray, jnp.asarray):
    x = media.to_float(convert(levels))
    assert x.dtype == np.float32
    assert (float(x[0]), float(x[-1])) == (-1.0, 1.0)
    np.testing.assert_array_equal(media.to_uint8(x), levels)


def test_to_float_can_be_traced():
  levels = np.arange(256, dtype=np.uint8)
  np.testing.assert_allclose(
    jax.jit(media.to_float)(levels), media.to_float(levels), atol=1e-6
  )


def test_to_uint8_clips_and_rounds_half_to_even():
  np.testing.assert_array_equal(media.to_uint8(np.array([-9.0, 7.0])), [0, 255])
  # 127.5 and 0.5 levels lie half-way.
  halves = np.array([0.0, 0.5 / 127.5 - 1])
  np.testing.assert_array_equal(media.to_uint8(halves), [128, 0])
  half_precision = jnp.ones((2,), jnp.bfloat16)
  np.testing.assert_array_equal(media.to_uint8(half_precision), [255, 255])


def test_conversions_refuse_what_they_cannot_mean():
  with pytest.raises(UserError, match="2 of 3 pixels are not finite"):
    media.to_uint8(np.array([0.0, np.nan, np.inf]))
  with pytest.raises(UserError, match="float32"):
    media.to_float(np.zeros(3, np.float32))


@pytest.mark.parametrize("scale", [1, 4])
def test_mp4_lasts_exactly_five_seconds(tmp_path, scale):
  path = tmp_path / "clip.mp4"
  media.write_mp4(path, noise(80, 32, 32, 3), fps=16, scale=scale)
  with av.open(path) as container:
    stream = container.streams.video[0]
    assert stream.codec_context.name == "h264"
    assert stream.average_rate == 16
    assert stream.duration * stream.time_base == 5
    assert Fraction(container.duration, av.time_base) == 5
    frames = list(container.decode(stream))
  assert len(frames) == 80
  assert frames[0].width == frames[0].height == 32 * scale
  times = [f.pts * f.time_base for f in frames]
  assert times == [Fraction(i, 16) for i in range(80)]


@pytest.mark.parametrize("name", COLORS)
def test_mp4_keeps_saturated_colours(tmp_path, name):
  clip = np.tile(np.array(COLORS[name], np.uint8), (3, 32, 32, 1))
  media.write_mp4(tmp_path / "clip.mp4", clip, fps=16)
  back, fps, *_ = media.read_video(tmp_path / "clip.mp4")
  assert (back.dtype, back.shape, fps) == (np.uint8, clip.shape, 16.0)
  assert np.abs(back.astype(int) - clip).mean() <= 3


def test_mp4_is_bt709_and_says_so(tmp_path):
  green = np.tile(np.array([0, 255, 0], np.uint8), (2, 32, 32, 1))
  media.write_mp4(tmp_path / "clip.mp4", green, fps=16)
  with av.open(tmp_path / "clip.mp4") as container:
    frame = next(container.decode(video=0))
    context = container.streams.video[0].codec_context
    tags = (context.colorspace, context.color_primaries, context.color_trc)
  assert [int(tag) for tag in tags] == [1, 1, 1]
  assert int(context.color_range) == 1
  # BT.709: 16 + 219 * 0.7152; BT.601 would give 145.
  assert abs(frame.to_ndarray()[0, 0] - 173) <= 1


def test_mp4_is_close_and_the_same_every_time(tmp_path):
  ramp = np.linspace(40, 210, 32).astype(np.uint8)
  clip = np.broadcast_to(ramp[:, None, None], (6, 32, 32, 3))
  for name in ("a.mp4", "b.mp4"):
    media.write_mp4(tmp_path / name, clip, fps=16)
  back, *_ = media.read_video(tmp_path / "a.mp4")
  assert np.abs(back.astype(int) - clip).max() <= 4
  assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_mp4_refuses_odd_sizes_and_leaves_nothing(tmp_path):
  clip = noise(2, 31, 32, 3)
  with pytest.raises(UserError, match="31x32"):
    media.write_mp4(tmp_path / "clip.mp4", clip, fps=16)
  with pytest.raises(UserError, match="scale=0"):
    media.write_mp4(tmp_path / "clip.mp4", clip, fps=16, scale=0)
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [None, b"", b"not a video"])
def test_read_video_names_the_bad_file(tmp_path, content):
  path = tmp_path / "bad.mp4"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=r"bad\.mp4"):
    media.read_video(path)


def test_webp_is_lossless_and_lasts_exactly_five_seconds(tmp_path):
  clip = noise(80, 16, 16, 3)
  media.write_webp(tmp_path / "clip.webp", clip, fps=16)
  durations = []
  with Image.open(tmp_path / "clip.webp") as image:
    assert (image.n_frames, image.info["loop"]) == (80, 0)
    for i in range(80):
      image.seek(i)
      np.testing.assert_array_equal(np.asarray(image.convert("RGB")), clip[i])
      durations.append(image.info["duration"])
  assert sum(durations) == 5000
  assert set(durations) == {62, 63}


def test_png_and_npy_are_exact(tmp_path):
  clip = noise(3, 7, 5, 3)
  media.write_png(tmp_path / "a.png", clip[0])
  media.save_npy(tmp_path / "a.npy", clip)
  with Image.open(tmp_path / "a.png") as image:
    np.testing.assert_array_equal(np.asarray(image), clip[0])
  np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), clip)
  assert sorted(os.listdir(tmp_path)) == ["a.npy", "a.png"]


@pytest.mark.parametrize("write", ["mp4", "webp", "png", "npy"])
def test_writers_never_overwrite(tmp_path, write):
  clip = noise(2, 8, 8, 3)
  path = tmp_path / f"mine.{write}"
  path.write_text("precious")
  calls = {
    "mp4": lambda: media.write_mp4(path, clip, 16),
    "webp": lambda: media.write_webp(path, clip, 16),
    "png": lambda: media.write_png(path, clip[0]),
    "npy": lambda: media.save_npy(path, clip),
  }
  with pytest.raises(UserError, match="exists"):
    calls[write]()
  assert path.read_text() == "precious"
  assert os.listdir(tmp_path) == [path.name]


def refuse_link(source, target):
  raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_new_file_spares_a_file_that_appears_meanwhile(
  tmp_path, monkeypatch, links
):
  if not links:
    monkeypatch.setattr(os, "link", refuse_link)
  path = tmp_path / "a.txt"
  with (
    pytest.raises(UserError, match="exists"),
    media.new_file(path) as temporary,
  ):
    temporary.write_text("late")
    path.write_text("first")
  assert path.read_text() == "first"
  assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("links", [True, False])
def test_new_file_is_whole_or_not_there(tmp_path, monkeypatch, links):
  if not links:
    monkeypatch.setattr(os, "link", refuse_link)
  path = tmp_path / "deep" / "a.txt"
  with pytest.raises(RuntimeError), media.new_file(path) as temporary:
    temporary.write_text("half")
    raise RuntimeError
  assert os.listdir(path.parent) == []
  with media.new_file(path) as temporary:
    temporary.write_text("whole")
    assert not path.exists()
  assert path.read_text() == "whole"
  assert os.listdir(path.parent) == ["a.txt"]


def test_new_file_names_a_folder_that_is_none(tmp_path):
  (tmp_path / "file").write_text("")
  with (
    pytest.raises(UserError, match="file is a file, no folder"),
    media.new_file(tmp_path / "file" / "a.txt"),
  ):
    pass


def test_free_path_skips_used_stems(tmp_path):
  assert media.free_path(tmp_path / "new", "a") == tmp_path / "new" / "a"
  (tmp_path / "a.mp4").touch()
  (tmp_path / "a-1").touch()
  (tmp_path / "ab.mp4").touch()
  assert media.free_path(tmp_path, "a") == tmp_path / "a-2"
  assert media.free_path(tmp_path, "b") == tmp_path / "b"


def test_contact_sheet_shows_first_to_last_frame():
  levels = np.arange(80, dtype=np.uint8)
  clip = np.broadcast_to(levels[:, None, None, None], (80, 4, 6, 3))
  sheet = media.contact_sheet(clip, columns=10, gap=2)
  assert sheet.shape == (4, 10 * 8 - 2, 3)
  assert [sheet[0, i * 8, 0] for i in (0, 9)] == [0, 79]
  assert (sheet[:, 6:8] == 255).all()
  two = media.contact_sheet(clip, columns=2, rows=2, scale=3, gap=1)
  assert two.shape == (25, 37, 3)
  shown = [two[y, x, 0] for y in (0, 13) for x in (0, 19)]
  assert shown == [0, 26, 53, 79]


def test_contact_sheet_many_draws_captions_above_strips():
  clips = {"one": noise(5, 8, 8, 3), "a long caption " * 9: noise(5, 8, 8, 3)}
  sheet = media.contact_sheet_many(clips, columns=4, scale=2)
  strip = media.contact_sheet(clips["one"], columns=4, scale=2)
  height = strip.shape[0]
  assert sheet.shape[1] == strip.shape[1]
  top = next(
    y for y in range(len(sheet)) if np.array_equal(sheet[y : y + height], strip)
  )
  assert sheet[:top].min() < 128  # letters
  assert len(sheet) - (top + height) > 2 * top  # the long caption wraps
  with pytest.raises(UserError, match="one size"):
    media.contact_sheet_many({"a": clips["one"], "b": noise(5, 4, 4, 3)})
  with pytest.raises(UserError, match="one size"):
    media.contact_sheet_many({})


def test_empty_clips_and_rates_are_named(tmp_path):
  with pytest.raises(UserError, match="empty"):
    media.contact_sheet(np.zeros((0, 4, 4, 3), np.uint8))
  with pytest.raises(UserError, match="fps=0"):
    media.write_webp(tmp_path / "a.webp", noise(2, 4, 4, 3), 0)


def test_import_leaves_pyav_alone():
  code = "import sys, lumiere_jax.media; print('av' in sys.modules)"
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert done.stdout.strip() == "False"


def scratch_files(folder):
  folder.mkdir()
  files = [folder / "clip.mp4", folder / "clip.json"]
  for file in files:
    file.write_text(file.suffix)
  return files


def test_files_that_belong_together_get_one_free_name(tmp_path):
  (tmp_path / "a.mp4").write_text("old")
  paths = media.publish_together(scratch_files(tmp_path / "s"), tmp_path, "a")
  assert paths == [tmp_path / "a-1.mp4", tmp_path / "a-1.json"]
  assert [p.read_text() for p in paths] == [".mp4", ".json"]
  assert (tmp_path / "a.mp4").read_text() == "old"


def test_a_name_that_another_program_took_is_left_to_it(tmp_path, monkeypatch):
  """Its second file is there when ours comes: none of ours stays under it."""
  free = media.free_path
  (tmp_path / "a.json").write_text("theirs")
  stems = iter([tmp_path / "a"])
  monkeypatch.setattr(
    files, "free_path", lambda *args: next(stems, None) or free(*args)
  )
  paths = media.publish_together(scratch_files(tmp_path / "s"), tmp_path, "a")
  assert paths == [tmp_path / "a-1.mp4", tmp_path / "a-1.json"]
  assert not (tmp_path / "a.mp4").exists()
  assert (tmp_path / "a.json").read_text() == "theirs"


def test_files_that_cannot_be_written_leave_nothing(tmp_path, monkeypatch):
  publish = files._publish

  def full(temporary, path):
    if path.suffix == ".json":
      raise OSError(28, "No space left on device")
    publish(temporary, path)

  monkeypatch.setattr(files, "_publish", full)
  with pytest.raises(UserError, match="No space left"):
    media.publish_together(scratch_files(tmp_path / "s"), tmp_path, "a")
  assert [p.name for p in tmp_path.iterdir()] == ["s"]
