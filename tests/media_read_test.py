# SPDX-License-Identifier: Apache-2.0
"""Images and videos of all kinds come upright, in time and at the size."""

import io
import struct
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from lumiere_jax import media
from lumiere_jax.errors import UserError
from lumiere_jax.media import Size

RED, BLUE = (255, 0, 0), (0, 0, 255)
# Upper half red, lower half blue; wider than high.
HALVES = np.zeros((16, 24, 3), np.uint8)
HALVES[:8], HALVES[8:] = RED, BLUE


def write_frames(path, levels, times, clock=1000, **stream_fields):
  """Writes grey frames shown from given times (seconds) on."""
  with av.open(path, "w") as container:
    stream = container.add_stream("libx264", rate=clock)
    stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
    stream.options = {"crf": "5"}
    stream.codec_context.time_base = Fraction(1, clock)
    for level, time in zip(levels, times, strict=True):
      image = np.full((16, 32, 3), level, np.uint8)
      frame = av.VideoFrame.from_ndarray(image, format="rgb24")
      frame.pts, frame.time_base = round(time * clock), Fraction(1, clock)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


def levels_of(footage):
  return np.round(footage.clip.mean(axis=(1, 2, 3))).astype(int)


def test_video_is_resampled_by_its_timestamps(tmp_path):
  path = write_frames(
    tmp_path / "v.mp4", [10, 60, 110, 160], [0.0, 0.1, 0.5, 0.7]
  )
  footage = media.read_video(path, fps=10, num_frames=6)
  np.testing.assert_allclose(
    levels_of(footage), [10, 60, 60, 60, 60, 110], atol=3
  )
  assert footage.fps == 10 and footage.trimmed and footage.covered == 6


@pytest.mark.parametrize("rate", [8, 15, 16, 24, 30, 60])
def test_a_clip_of_any_rate_lasts_as_long(tmp_path, rate):
  clip = np.zeros((rate, 16, 16, 3), np.uint8)
  media.write_mp4(tmp_path / "v.mp4", clip, rate)
  footage = media.read_video(tmp_path / "v.mp4", fps=16, num_frames=20)
  assert (footage.covered, footage.trimmed) == (16, False)
  assert len(footage.clip) == 20


def test_own_rate_gives_back_every_frame(tmp_path):
  clip = np.arange(12, dtype=np.uint8)[:, None, None, None] * 20
  clip = np.ascontiguousarray(np.broadcast_to(clip, (12, 16, 16, 3)))
  media.write_mp4(tmp_path / "v.mp4", clip, 16)
  at_16 = media.read_video(tmp_path / "v.mp4", fps=16)
  np.testing.assert_array_equal(
    at_16.clip, media.read_video(tmp_path / "v.mp4").clip
  )
  np.testing.assert_allclose(levels_of(at_16), np.arange(12) * 20, atol=3)


def test_time_counts_from_the_first_frame(tmp_path):
  path = write_frames(tmp_path / "v.mkv", [10, 60, 110], [5.0, 5.1, 5.2])
  footage = media.read_video(path, fps=10, num_frames=3)
  np.testing.assert_allclose(levels_of(footage), [10, 60, 110], atol=3)


def test_rotation_flag_is_honoured(tmp_path):
  clip = np.repeat(HALVES[None], 2, axis=0)
  media.write_mp4(tmp_path / "v.mp4", clip, 16)
  data = (tmp_path / "v.mp4").read_bytes()
  matrix = struct.Struct(">9i")
  plain = matrix.pack(65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
  start = data.index(plain, data.index(b"tkhd"))
  # As a phone held upright writes it: to be turned clockwise.
  turned = matrix.pack(0, 65536, 0, -65536, 0, 0, 16 * 65536, 0, 1 << 30)
  data = data[:start] + turned + data[start + len(plain) :]
  (tmp_path / "v.mp4").write_bytes(data)
  footage = media.read_video(tmp_path / "v.mp4")
  assert footage.source == Size(24, 16)
  frame = footage.clip[0].astype(int)
  # What was above is on the right now.
  assert frame[:, 10:, 0].mean() > 200 and frame[:, :6, 2].mean() > 200


@pytest.mark.parametrize(
  ("fit", "corner", "middle"),
  [
    ("crop", RED, None),
    ("pad", (0, 0, 0), RED),
    ("stretch", RED, None),
  ],
)
def test_fit_is_as_asked(tmp_path, fit, corner, middle):
  media.write_png(tmp_path / "a.png", HALVES)
  pixels, source = media.read_image(tmp_path / "a.png", Size(12, 12), fit)
  assert pixels.shape == (12, 12, 3) and source == Size(16, 24)
  np.testing.assert_allclose(pixels[0, 0], corner, atol=2)
  if middle:
    np.testing.assert_allclose(pixels[4, 6], middle, atol=40)


def test_cropping_cuts_both_sides_alike():
  image = np.zeros((8, 24, 3), np.uint8)
  image[:, 8:16] = 255
  cropped = media.fit_image(Image.fromarray(image), Size(8, 8), "crop")
  assert np.asarray(cropped).min() == 255


def test_exif_orientation_is_honoured(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned clockwise.
  Image.fromarray(HALVES).save(tmp_path / "a.png", exif=exif)
  pixels, source = media.read_image(tmp_path / "a.png")
  assert source == Size(24, 16)
  np.testing.assert_array_equal(pixels[0, -1], RED)
  np.testing.assert_array_equal(pixels[0, 0], BLUE)


def images():
  """Images whose left column is red, of every mode, by format and name."""
  red = Image.new("RGB", (4, 4), RED)
  yield "png", "rgb", red
  yield "png", "palette", red.convert("P")
  yield "webp", "rgb", red
  yield "bmp", "rgb", red
  yield "gif", "palette", red
  yield "tiff", "rgba", red.convert("RGBA")
  yield "jpeg", "cmyk", red.convert("CMYK")


@pytest.mark.parametrize(
  ("suffix", "image"),
  [pytest.param(s, i, id=f"{s}-{n}") for s, n, i in images()],
)
def test_formats_and_modes(tmp_path, suffix, image):
  image.save(tmp_path / f"a.{suffix}", quality=100)
  pixels, _ = media.read_image(tmp_path / f"a.{suffix}")
  assert pixels.dtype == np.uint8 and pixels.shape == (4, 4, 3)
  np.testing.assert_allclose(pixels[0, 0], RED, atol=12)


def test_transparent_is_white_and_half_transparent_half(tmp_path):
  rgba = np.zeros((1, 3, 4), np.uint8)
  rgba[0, :, 3] = [0, 128, 255]
  Image.fromarray(rgba).save(tmp_path / "a.png")
  pixels, _ = media.read_image(tmp_path / "a.png")
  np.testing.assert_allclose(pixels[0, :, 0], [255, 127, 0], atol=1)


def test_sixteen_bits_keep_their_brightness(tmp_path):
  grey = np.array([[0, 32896, 65535]], np.uint16)
  Image.fromarray(grey).save(tmp_path / "a.png")
  pixels, _ = media.read_image(tmp_path / "a.png")
  np.testing.assert_allclose(pixels[0, :, 1], [0, 128, 255], atol=1)


@pytest.mark.parametrize("content", [None, b"", b"no image", b"\x89PNG\r\n"])
def test_what_is_no_image_is_named(tmp_path, content):
  path = tmp_path / "bad.png"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=r"bad\.png"):
    media.read_image(path)


def test_sound_alone_is_no_video(tmp_path):
  with av.open(tmp_path / "a.wav", "w") as container:
    stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
    frame = av.AudioFrame.from_ndarray(
      np.zeros((1, 800), np.int16), format="s16", layout="mono"
    )
    frame.sample_rate = 8000
    container.mux(stream.encode(frame))
  with pytest.raises(UserError, match=r"a\.wav holds no video"):
    media.read_video(tmp_path / "a.wav")


def encoded():
  """A small file of each kind that is read."""
  image = Image.fromarray(HALVES)
  for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"):
    file = io.BytesIO()
    image.save(file, kind)
    yield kind.lower(), file.getvalue()
  clip = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
  for kind, codec in (
    ("mp4", "libx264"),
    ("matroska", "mpeg4"),
    ("avi", "mjpeg"),
    ("gif", "gif"),
  ):
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
      stream = container.add_stream(codec, rate=10)
      stream.width = stream.height = 16
      stream.pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(
        codec, "yuv420p"
      )
      for image in clip:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
      container.mux(stream.encode(None))
    yield kind, file.getvalue()


def mutated(data, rng):
  """The bytes cut, overwritten, doubled or with some bits flipped."""
  data = bytearray(data)
  at, length = rng.integers(len(data)), int(rng.integers(1, 64))
  match rng.integers(4):
    case 0:
      del data[at:]
    case 1:
      data[at : at + length] = rng.bytes(length)
    case 2:
      data[at:at] = data[at : at + length]
    case _:
      for i in rng.integers(len(data), size=8):
        data[i] ^= 1 << int(rng.integers(8))
  return bytes(data)


@pytest.mark.parametrize(
  "count", [20, pytest.param(400, marks=pytest.mark.full)]
)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path, count):
  """Ten kinds of file, `count` mutants of each, as image and as video."""
  av.logging.set_level(None)
  rng = np.random.default_rng(count)
  path = tmp_path / "mutant"
  refused = 0
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    for _, data in encoded():
      for _ in range(count):
        path.write_bytes(mutated(data, rng))
        for read in (
          lambda: media.read_image(path, Size(8, 8)).pixels,
          lambda: media.read_video(
            path, fps=16, num_frames=4, size=Size(8, 8)
          ).clip[0],
        ):
          try:
            assert read().shape == (8, 8, 3)
          except UserError as error:
            refused += 1
            assert "\n" not in str(error)
  assert count * 5 < refused < count * 19


def test_what_is_held_is_the_last_frame_of_the_file(tmp_path):
  # The third frame ends before its turn in the clip would come.
  levels = np.array([0, 100, 200], np.uint8)[:, None, None, None]
  clip = np.broadcast_to(levels, (3, 32, 32, 3)).copy()
  path = tmp_path / "short.mp4"
  media.write_mp4(path, clip, 25)
  footage = media.read_video(path, fps=16, num_frames=8)
  assert footage.covered == 2
  means = footage.clip.mean(axis=(1, 2, 3))
  np.testing.assert_allclose(means, [0, 100] + [200] * 6, atol=4)


def test_our_own_webp_is_read_as_a_video(tmp_path):
  clip = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
  media.write_webp(tmp_path / "clip.webp", clip, 16)
  footage = media.read_video(tmp_path / "clip.webp")
  np.testing.assert_array_equal(footage.clip, clip)
  assert footage.fps == pytest.approx(16, rel=0.03)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_of_no_known_range_are_refused(tmp_path, mode):
  Image.new(mode, (4, 4), 1).save(tmp_path / "x.tiff")
  with pytest.raises(UserError, match="32 bits and no known range"):
    media.read_image(tmp_path / "x.tiff")


def test_large_images_are_refused_in_one_line(tmp_path, recwarn):
  for width in (9000, 14000):
    path = tmp_path / f"{width}.png"
    Image.new("1", (width, width)).save(path)
    with pytest.raises(UserError, match="67,108,864"):
      media.read_image(path)
    assert media.frames_of_image(path) == 0
  assert not recwarn.list


@pytest.mark.parametrize("read", [media.read_image, media.read_video])
def test_a_folder_is_no_file(tmp_path, read):
  with pytest.raises(UserError, match="is a folder"):
    read(tmp_path)


def test_a_video_that_is_cut_off_is_read_as_far_as_it_is_whole(tmp_path):
  clip = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
  path = tmp_path / "cut.mp4"
  media.write_mp4(path, clip, 16)
  whole = media.read_video(path, fps=16).clip
  path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
  footage = media.read_video(path, fps=16, num_frames=40)
  assert 20 < footage.covered < 40
  np.testing.assert_array_equal(
    footage.clip[: footage.covered], whole[: footage.covered]
  )
  assert footage.missing == pytest.approx((40 - footage.covered) / 16, abs=0.02)
