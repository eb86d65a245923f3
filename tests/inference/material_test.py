# SPDX-License-Identifier: Apache-2.0
"""What a user brings is read to the clip's size, or refused in one line."""

import numpy as np
import pytest
from PIL import Image

from lumiere_jax import media
from lumiere_jax.conditioning.mask import Size
from lumiere_jax.errors import UserError
from lumiere_jax.inference.material import (
  Sources,
  check_sources,
  file_hashes,
  read_material,
  saved_sources,
)

SIZE, FPS = Size(8, 16, 16), 16
# Left half black, right half white, twice as large as the clip.
HALVES = np.zeros((32, 32, 3), np.uint8)
HALVES[:, 16:] = 255


@pytest.fixture
def files(tmp_path):
  """Paths of an image, a half-white mask, a video and a moving mask."""
  rng = np.random.default_rng(0)
  paths = {n: str(tmp_path / n) for n in ("a.png", "m.png", "v.mp4", "m.mp4")}
  media.write_png(paths["a.png"], rng.integers(0, 256, (32, 32, 3), np.uint8))
  media.write_png(paths["m.png"], HALVES)
  levels = np.arange(8, dtype=np.uint8) * 30
  video = np.broadcast_to(levels[:, None, None, None], (8, 32, 32, 3))
  media.write_mp4(paths["v.mp4"], np.ascontiguousarray(video), FPS)
  moving = np.stack([np.roll(HALVES, 4 * k, axis=1) for k in range(8)])
  media.write_mp4(paths["m.mp4"], moving, FPS)
  return paths


def read(task="inpaint", **sources):
  return read_material(task, Sources(**sources), SIZE, FPS)


def test_image_and_video_come_at_the_clips_size(files):
  material, notes = read(image=files["a.png"], video=files["v.mp4"])
  assert material.image.shape == (16, 16, 3)
  assert material.video.shape == (8, 16, 16, 3)
  levels = material.video.mean(axis=(1, 2, 3))
  np.testing.assert_allclose(levels, np.arange(8) * 30, atol=4)
  assert notes == []


@pytest.mark.parametrize("spec", ["m.png", "box:16,0,32,32"])
def test_white_or_inside_of_a_box_is_the_region(files, spec):
  material, _ = read(image=files["a.png"], mask=files.get(spec, spec))
  assert material.region.shape == (1, 16, 16, 1)
  np.testing.assert_array_equal(material.region[0, :, 8:], 1)
  np.testing.assert_array_equal(material.region[0, :, :8], 0)
  kept, _ = read(image=files["a.png"], keep=files.get(spec, spec))
  np.testing.assert_array_equal(kept.region, 1 - material.region)


def test_a_mask_may_move(files):
  material, _ = read(video=files["v.mp4"], mask=files["m.mp4"])
  assert material.region.shape == (8, 16, 16, 1)
  for k, frame in enumerate(material.region[..., 0]):
    expected = np.roll(HALVES[::2, ::2, 0] > 0, 2 * k, axis=1)
    assert (frame == expected).mean() > 0.9


def test_a_box_is_cropped_as_its_image_is(tmp_path):
  wide = np.zeros((16, 48, 3), np.uint8)
  media.write_png(tmp_path / "wide.png", wide)
  material, _ = read(image=str(tmp_path / "wide.png"), mask="box:16,0,24,16")
  np.testing.assert_array_equal(material.region[0, :, :8], 1)
  np.testing.assert_array_equal(material.region[0, :, 8:], 0)


def test_other_lengths_are_trimmed_or_held_and_told(tmp_path, files):
  clip = np.zeros((12, 32, 32, 3), np.uint8)
  media.write_mp4(tmp_path / "long.mp4", clip, FPS)
  material, notes = read(video=str(tmp_path / "long.mp4"))
  assert len(material.video) == 8
  assert notes == [f"{tmp_path}/long.mp4 is cut after 8 frames at 16 fps"]
  media.write_mp4(tmp_path / "short.mp4", clip[:3] + 99, FPS)
  material, notes = read(video=str(tmp_path / "short.mp4"))
  assert len(material.video) == 8 and "has 3 frames" in notes[0]
  np.testing.assert_array_equal(material.video[7], material.video[2])
  with pytest.raises(UserError, match=r"given=4, but .* only 3 frames"):
    read(video=str(tmp_path / "short.mp4"), frames_given=4)
  with pytest.raises(UserError, match="has 3 frames at 16 fps, it must have 8"):
    read(video=files["v.mp4"], mask=str(tmp_path / "short.mp4"))


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("nowhere.png", "no such mask file: 'nowhere.png'"),
    ("box:1,2,3", "is no box; write box:x0,y0,x1,y1"),
    ("box:1.5,2,3,4", "is no box"),
    ("box:0,0,33,4", "must lie in 0,0,32,32"),
    ("box:4,0,4,4", "x0 < x1"),
    ("small.png", "small.png has 16 x 16 pixels, it must have 32 x 32"),
    ("text.txt", "cannot read .*text.txt as a video"),
  ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, files, spec, message):
  media.write_png(tmp_path / "small.png", HALVES[:16, :16])
  (tmp_path / "text.txt").write_text("no mask")
  path = tmp_path / spec
  with pytest.raises(UserError, match=message) as info:
    read(image=files["a.png"], mask=str(path) if path.exists() else spec)
  assert "\n" not in str(info.value)


def test_sources_are_checked_by_task():
  check_sources("inpaint", Sources(video="v.mp4", mask="m.png", fit="pad"))
  check_sources("outpaint", Sources(video="v.mp4", keep="box:0,0,1,1"))
  for sources, message in (
    (Sources(video="v.mp4"), r"needs --mask \(or --keep\)"),
    (Sources(video="v", mask="m", keep="k"), "--mask and --keep say the same"),
    (Sources(video="v", mask="m", image="i"), "has no use for --image"),
    (Sources(video="v", mask="m", fit="zoom"), "unknown --fit='zoom'; choices"),
  ):
    with pytest.raises(UserError, match=message):
      check_sources("inpaint", sources)


def test_files_are_told_apart_by_their_content(files):
  sources = Sources(image=files["a.png"], mask="box:0,0,1,1")
  before = file_hashes(sources)
  assert set(before) == {"image"}
  Image.new("RGB", (2, 2)).save(files["a.png"])
  assert file_hashes(sources) != before


def test_bars_around_a_video_are_what_outpainting_makes(tmp_path):
  wide = tmp_path / "wide.mp4"
  media.write_mp4(wide, np.full((8, 32, 64, 3), 200, np.uint8), FPS)
  check_sources("outpaint", Sources(video=str(wide), fit="pad"))
  material, _ = read("outpaint", video=str(wide), fit="pad")
  region = material.region[0, ..., 0]
  rows = np.repeat([1, 0, 0, 1], 4)[:, None]
  np.testing.assert_array_equal(region, np.broadcast_to(rows, (16, 16)))
  assert material.video[:, 4:12].min() > 180
  assert material.video[:, :4].max() == 0
  # A part that is kept is asked for, and the rest of the video is not.
  part, _ = read("outpaint", video=str(wide), fit="pad", keep="box:0,0,32,32")
  assert part.region.mean() == 1 - 1 / 4
  for task in ("inpaint", "outpaint"):
    with pytest.raises(UserError, match="needs --mask"):
      check_sources(task, Sources(video=str(wide)))


@pytest.mark.parametrize("task", ["outpaint", "inpaint"])
@pytest.mark.parametrize("flag", ["mask", "keep"])
def test_bars_are_made_by_outpainting_alone(tmp_path, task, flag):
  wide = tmp_path / "wide.mp4"
  media.write_mp4(wide, np.full((8, 32, 64, 3), 200, np.uint8), FPS)
  sources = {"video": str(wide), "fit": "pad", flag: "box:0,0,32,32"}
  region = read(task, **sources)[0].region[0, ..., 0]
  assert (region[:4] == (task == "outpaint")).all()
  assert (region[12:] == (task == "outpaint")).all()
  assert (region[4:12, :8] == (flag == "mask")).all()
  assert (region[4:12, 8:] == (flag == "keep")).all()


def test_what_is_transparent_in_a_mask_is_not_white(files, tmp_path):
  mask = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
  mask.paste((255, 255, 255, 255), (0, 0, 16, 32))
  mask.save(tmp_path / "mask.png")
  region = read(image=files["a.png"], mask=str(tmp_path / "mask.png"))[0].region
  assert region[0, :, :8].all() and not region[0, :, 8:].any()


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animated_images_are_masks_that_move(files, tmp_path, suffix):
  frames = [
    Image.fromarray(np.roll(HALVES, 4 * k, axis=1)).convert(
      "P" if suffix == "gif" else "RGB"
    )
    for k in range(8)
  ]
  path = tmp_path / f"mask.{suffix}"
  options = {"lossless": True} if suffix == "webp" else {}
  # Centiseconds are all that GIF knows.
  frames[0].save(
    path, save_all=True, append_images=frames[1:], duration=70, **options
  )
  region = read(video=files["v.mp4"], mask=str(path))[0].region
  assert region.shape == (8, 16, 16, 1)
  moved = np.abs(np.diff(region, axis=0)).sum(axis=(1, 2, 3))
  assert (moved > 0).sum() >= 6


def test_a_mask_of_which_nothing_is_left_is_told(files):
  with pytest.raises(UserError, match="nothing is left of it at 16 x 16"):
    read(image=files["a.png"], mask="box:0,0,1,1")


@pytest.mark.parametrize("name", ["mask", "keep"])
def test_an_empty_mask_is_no_file(files, name):
  with pytest.raises(UserError, match="no such mask file: ''"):
    read(image=files["a.png"], **{name: ""})


def test_a_file_that_is_no_mask_is_called_one(files, tmp_path):
  (tmp_path / "text.png").write_text("no image")
  with pytest.raises(UserError, match=r"^mask, .*text\.png"):
    read(image=files["a.png"], mask=str(tmp_path / "text.png"))


def test_sources_are_of_the_right_kind():
  saved = {"image": "a.png", "strength": 0.5, "frames_given": 3}
  assert saved_sources(saved) == Sources(**saved)
  for wrong in ({"image": 3}, {"frames_given": 1.5}, {"imagge": "a.png"}):
    with pytest.raises(UserError, match="cannot be right"):
      saved_sources(wrong)
  with pytest.raises(UserError, match="no use for --fit"):
    check_sources("text_to_video", Sources(fit="crop"))


def test_a_file_that_is_cut_off_is_told(tmp_path):
  whole = tmp_path / "whole.mkv"
  noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
  media.write_mp4(tmp_path / "a.mp4", noise, FPS)
  remux(tmp_path / "a.mp4", whole)
  assert read(video=str(whole))[1] == [
    f"{whole} is cut after 8 frames at 16 fps"
  ]
  cut = tmp_path / "cut.mkv"
  cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 20])
  _, notes = read(video=str(cut))
  assert "is damaged or cut off" in notes[-1]


def remux(source, target):
  import av

  with av.open(str(source)) as old, av.open(str(target), "w") as new:
    stream = new.add_stream_from_template(old.streams.video[0])
    for packet in old.demux(video=0):
      if packet.dts is not None:
        packet.stream = stream
        new.mux(packet)
