# SPDX-License-Identifier: Apache-2.0
"""Parts of videos: the right frames, by few decoded ones, or a named reason."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lumiere_jax import media
from lumiere_jax.media import Unusable, Wish, segment
from tests import video_files


def wish(**fields):
  return Wish(**({"num_frames": 16, "fps": 8, "size": (16, 16)} | fields))


def levels(clip):
  """Of the right edge, which is not darkened."""
  return clip[:, :, -2:].mean(axis=(1, 2, 3))


def expected(times, start, *, seconds, frames=16, fps=8):
  """Levels of what is shown at the clip's instants."""
  instants = start + np.arange(frames) / fps
  shown = np.searchsorted(times, instants + 1e-3, side="right") - 1
  return video_files.grey(np.asarray(times)[shown], seconds)


KINDS = {
  "mp4": {},
  "mkv": {},
  "sound.mkv": {"sound": True},
  "avi": {"codec": "mpeg4"},
  "ts": {},
  "mov": {"sound": True},
  "webm": {"codec": "libvpx"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0.0, 0.37, 1.0])
def test_a_part_of_any_container_shows_what_is_shown_then(
  tmp_path, kind, start
):
  path = tmp_path / f"v.{kind}"
  video_files.write_video(path, **KINDS[kind])
  clip = media.read_segment(path, wish(start=start))
  assert clip.shape == (16, 16, 16, 3)
  want = expected(np.arange(100) / 25, 2.0 * start, seconds=4.0)
  np.testing.assert_allclose(levels(clip), want, atol=4.5)


@pytest.mark.parametrize("start", [0.0, 0.5, 0.9])
def test_a_variable_rate_is_resampled_by_timestamps(tmp_path, start):
  gaps = np.random.default_rng(0).choice([0.02, 0.05, 0.4], 30)
  times = np.concatenate([[0.0], np.cumsum(gaps)])
  seconds = float(times[-1]) + 0.04
  path = video_files.write_video(tmp_path / "v.mp4", times, seconds=seconds)
  length = media.probe(path).seconds
  clip = media.read_segment(path, wish(start=start))
  want = expected(times, start * (length - 2.0), seconds=seconds)
  np.testing.assert_allclose(levels(clip), want, atol=4.5)


def test_bytes_are_read_as_the_file_is(tmp_path):
  path = video_files.write_video(tmp_path / "v.mp4")
  one = media.read_segment(path, wish(start=0.4))
  np.testing.assert_array_equal(
    one, media.read_segment(path.read_bytes(), wish(start=0.4))
  )


@pytest.fixture
def decoded(monkeypatch):
  """Counts the frames that are decoded."""
  count, inner = [0], segment.timed_frames

  def counting(*args):
    for frame in inner(*args):
      count[0] += 1
      yield frame

  monkeypatch.setattr(segment, "timed_frames", counting)
  return count


def test_a_clip_near_the_end_is_found_by_its_keyframe(tmp_path, decoded):
  path = video_files.write_video(tmp_path / "v.mp4", seconds=40.0, gop=10)
  clip = media.read_segment(path, wish(start=1.0))
  want = expected(np.arange(1000) / 25, 38.0, seconds=40.0)
  np.testing.assert_allclose(levels(clip), want, atol=4.5)
  assert decoded[0] <= 10 + 2 * 25 + 2  # Of 1000.


def test_where_keyframes_are_rare_the_clip_begins_earlier(tmp_path, decoded):
  path = video_files.write_video(tmp_path / "v.mp4", seconds=20.0, gop=500)
  near = media.read_segment(path, wish(start=0.75, max_seek_seconds=1.0))
  want = expected(np.arange(500) / 25, 1.0, seconds=20.0)
  np.testing.assert_allclose(levels(near), want, atol=4.5)
  assert decoded[0] <= 3 * 25 + 2
  far = media.read_segment(path, wish(start=0.75))
  want = expected(np.arange(500) / 25, 13.5, seconds=20.0)
  np.testing.assert_allclose(levels(far), want, atol=4.5)


def test_a_turned_video_comes_upright(tmp_path):
  path = video_files.turn(video_files.write_video(tmp_path / "v.mp4"))
  clip = media.read_segment(path, wish(size=(48, 32), start=0.5))
  # What was dark on the left is dark above.
  rows = clip[0].mean(axis=(1, 2))
  assert rows[:14].max() < rows[18:].min() - 5
  assert clip[0, -8:].std() < 1.5


def test_where_the_crop_lies(tmp_path):
  path = video_files.write_video(tmp_path / "v.mp4", size=(32, 96))

  def dark(centering):
    got = media.read_segment(path, wish(size=(32, 32), centering=centering))
    return got[0].mean() - levels(got)[0]

  assert dark((0.0, 0.5)) == pytest.approx(-0.0, abs=1)  # All of it is dark.
  left = media.read_segment(path, wish(size=(32, 32), centering=(0.0, 0.5)))
  right = media.read_segment(path, wish(size=(32, 32), centering=(1.0, 0.5)))
  assert right[0].mean() - left[0].mean() == pytest.approx(10, abs=2)
  whole = media.read_segment(path, wish(size=(32, 32), fit="stretch"))
  boxed = media.read_segment(
    path, wish(size=(32, 32), fit="stretch", box=(3, 5, 8, 24))
  )
  np.testing.assert_array_equal(boxed, whole[:, 3:11, 5:29])


def test_a_shorter_file_is_held_if_that_is_asked_for(tmp_path):
  path = video_files.write_video(tmp_path / "v.mp4", seconds=1.0)
  with pytest.raises(Unusable, match=r"too short: 1\.00 s"):
    media.read_segment(path, wish())
  clip = media.read_segment(path, wish(min_seconds=0.9, start=0.7))
  want = expected(np.arange(25) / 25, 0.0, seconds=1.0)
  np.testing.assert_allclose(levels(clip), want, atol=4.5)
  with pytest.raises(Unusable, match=r"needed 1\.10 s"):
    media.read_segment(path, wish(min_seconds=1.1))


def damaged_middle(path):
  data = bytearray(path.read_bytes())
  start = data.index(b"mdat") + 4
  noise = np.random.default_rng(1).integers(0, 256, 1000, np.uint8).tobytes()
  middle = start + (len(data) - start) // 3
  data[middle : middle + len(noise)] = noise
  path.write_bytes(data)


BROKEN = {
  "missing": lambda path: None,
  "empty": lambda path: path.write_bytes(b""),
  "unreadable": lambda path: path.write_bytes(bytes(range(256)) * 40),
  "no video": video_files.write_sound,
  "too short": lambda path: video_files.write_video(path, seconds=0.5),
  "damaged": lambda path: damaged_middle(
    video_files.write_video(path, size=(160, 160), seconds=2.0)
  ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_what_is_broken_has_a_reason(tmp_path, reason):
  path = tmp_path / "v.mp4"
  BROKEN[reason](path)
  with pytest.raises(Unusable) as caught:
    media.read_segment(path, wish())
  assert caught.value.reason == reason
  assert reason in segment.REASONS
  assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_is_damaged_where_it_is_cut(tmp_path):
  path = media_with_index_first(tmp_path / "v.mp4")
  media.read_segment(path, wish(start=1.0))
  video_files.cut_off(path, 0.6)
  media.read_segment(path, wish(start=0.0))
  with pytest.raises(Unusable, match="damaged"):
    media.read_segment(path, wish(start=1.0))
  with pytest.raises(Unusable, match=r"damaged: .* claims"):
    media.probe(path)


def media_with_index_first(path):
  rng = np.random.default_rng(0)
  media.write_mp4(path, rng.integers(0, 256, (128, 16, 16, 3), np.uint8), 16)
  return path


def test_a_frame_that_the_decoder_mends_is_damage_where_it_is_wanted(tmp_path):
  rng = np.random.default_rng(0)
  noise = rng.integers(0, 256, (32, 96, 96, 3), np.uint8)
  path = tmp_path / "v.mp4"
  media.encode_mp4(path, noise, (96, 96), 16)
  data, rng = bytearray(path.read_bytes()), np.random.default_rng(1)
  start = data.index(b"mdat") + 4
  for share in (0.65, 0.7, 0.75):  # Damage may be read as something valid.
    at = start + int((len(data) - start) * share)
    data[at : at + 60] = rng.integers(0, 256, 60, np.uint8).tobytes()
  path.write_bytes(data)
  assert len(media.read_video(path).clip) == 32  # The decoder gives all.
  early = media.read_segment(path, wish(fps=16, num_frames=8))
  assert early.shape[0] == 8
  with pytest.raises(Unusable, match="damaged: a frame of it is corrupt"):
    media.read_segment(path, wish(fps=16, num_frames=32))


def test_a_file_whose_index_is_cut_off_is_unreadable(tmp_path):
  path = video_files.cut_off(video_files.write_video(tmp_path / "v.mp4"), 0.8)
  with pytest.raises(Unusable, match="unreadable"):
    media.read_segment(path, wish())


def test_a_codec_that_nobody_knows_is_unreadable(tmp_path):
  path = video_files.write_video(tmp_path / "v.mp4")
  path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
  for read in (
    lambda: media.read_segment(path, wish()),
    lambda: media.probe(path),
    lambda: media.transcode(path, tmp_path / "o.mp4", fps=8),
  ):
    with pytest.raises(Unusable, match="unreadable: its codec is not known"):
      read()


@pytest.mark.parametrize("last", [False, True])
def test_times_of_years_do_not_hold_up_encoding(tmp_path, last):
  path = video_files.write_video(tmp_path / "v.mp4", seconds=1.0)
  data = bytearray(path.read_bytes())
  # Of `stts`: how often which duration comes, in the track's clock.
  at = data.index(b"stts") + 4
  runs = int.from_bytes(data[at + 4 : at + 8])
  at += 8 + 8 * (runs - 1 if last else 0) + 4
  data[at : at + 4] = (2**30).to_bytes(4)
  path.write_bytes(data)
  with pytest.raises(Unusable, match=r"damaged: a frame of it lasts [0-9,]+ s"):
    media.transcode(path, tmp_path / "o.mp4", fps=8)


def test_much_larger_frames_are_as_if_resized_at_once(tmp_path):
  rng = np.random.default_rng(0)
  # Colours change less than brightness, as in what cameras see.
  base = rng.integers(0, 256, (9, 16, 1)) + rng.integers(-30, 31, (9, 16, 3))
  base = np.clip(base, 0, 255).astype(np.uint8)
  image = np.asarray(Image.fromarray(base).resize((320, 180), 3))
  media.write_mp4(tmp_path / "v.mp4", np.repeat(image[None], 16, axis=0), 8)
  clip = media.read_segment(tmp_path / "v.mp4", wish(size=(32, 32)))
  slow = media.read_video(tmp_path / "v.mp4", num_frames=1, size=(32, 32)).clip
  difference = clip[0].astype(int) - slow[0]
  assert np.abs(difference).mean() < 2 and np.abs(difference).max() < 12
  assert difference.any()  # It did take the short way.


def test_much_larger_white_frames_are_white(tmp_path):
  white = np.full((16, 180, 320, 3), 255, np.uint8)
  media.write_mp4(tmp_path / "v.mp4", white, 8)
  clip = media.read_segment(tmp_path / "v.mp4", wish(size=(32, 32)))
  assert clip.min() == 255


_MEMORY = """
import resource, sys
import av
from lumiere_jax import media

def peak():  # In kB.
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def read(start):
  wish = media.Wish(num_frames=8, fps=8, size=(32, 32), start=start,
                    max_seek_seconds=99.0)
  media.read_segment(sys.argv[1], wish)

before = peak()
read(1.0)
media.transcode(sys.argv[1], sys.argv[2], short_px=64)
print((peak() - before) / 1e3)
"""


def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path):
  path = tmp_path / "v.mp4"
  frames = (np.full((360, 640, 3), n % 256, np.uint8) for n in range(240))
  media.encode_mp4(path, frames, (360, 640), 24, g="240", preset="ultrafast")
  result = subprocess.run(
    [sys.executable, "-c", _MEMORY, str(path), str(tmp_path / "o.mp4")],
    check=True,
    capture_output=True,
    text=True,
  )
  # All frames, as they are decoded, take 83 MB.
  assert float(result.stdout) < 40


def test_what_a_probe_tells(tmp_path):
  for name in ("v.mp4", "v.mkv"):
    facts = media.probe(video_files.write_video(tmp_path / name))
    assert facts.seconds == pytest.approx(4.0, abs=0.01)
    assert facts.fps == pytest.approx(25, abs=0.1)
    assert (facts.width, facts.height, facts.codec) == (48, 32, "h264")


def test_a_still_is_fitted_as_a_frame_is():
  pixels = np.zeros((16, 48, 3), np.uint8)
  pixels[:, 32:] = 200
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, "PNG")
  right = wish(centering=(1.0, 0.5), box=(0, 8, 16, 8))
  still = media.read_still(file.getvalue(), right)
  assert still.shape == (16, 8, 3) and (still == 200).all()
  with pytest.raises(Unusable, match="unreadable"):
    media.read_still(b"no image", wish())
