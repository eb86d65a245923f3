# SPDX-License-Identifier: Apache-2.0
"""What each feature network is shown of a clip, and which clips it refuses."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import extractors
from lumiere_jax.errors import UserError
from lumiere_jax.extractors import KINDS, Extractor
from lumiere_jax.features import transnet
from lumiere_jax.weights import folder

SIZES = [(60, 90), (90, 61), (300, 240), (224, 224)]
CONFIGS = {
  "videomae": {"image_px": 32},
  "c3d": {"classes": 101, "mean": [90.0, 98.0, 102.0], "order": "bgr"},
}


def clip_of(height, width, frames=2):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (frames, height, width, 3), np.uint8)


def seen(kind, clip, **changes):
  config = {**CONFIGS.get(kind, {}), **changes}
  return np.asarray(KINDS[kind].pixels(config, jnp.asarray(clip, jnp.float32)))


def square(clip):
  """The middle, of a frame that may be one pixel off it."""
  height, width = clip.shape[1:3]
  side = min(height, width)
  y, x = (height - side) // 2, (width - side) // 2
  return clip[:, y : y + side, x : x + side]


def resized(clip, size, antialias):
  """By torch, whose bilinear resize is that of the usual FVD code."""
  torch = pytest.importorskip("torch")
  frames = torch.from_numpy(np.moveaxis(clip, -1, 1).copy()).float()
  found = torch.nn.functional.interpolate(
    frames, size, mode="bilinear", align_corners=False, antialias=antialias
  )
  return np.moveaxis(found.numpy(), 1, -1)


def same_levels(ours, theirs, scale=1.0):
  """To a hundredth of a level, of 256."""
  assert ours.shape == theirs.shape
  assert np.abs(ours - theirs).max() < 1e-2 * scale


@pytest.mark.parametrize("size", SIZES)
def test_i3d_sees_what_the_usual_code_of_fvd_shows_it(size):
  clip = clip_of(*size)
  wanted = resized(square(clip), (224, 224), antialias=False)
  same_levels(seen("i3d", clip), wanted / 127.5 - 1, 1 / 127.5)


@pytest.mark.parametrize("size", SIZES)
def test_efficientnet_sees_antialiased_squares(size):
  clip = clip_of(*size)
  wanted = resized(square(clip), (224, 224), antialias=True)
  same_levels(seen("efficientnet-lite0", clip), wanted / 127.5 - 1, 1 / 127.5)


@pytest.mark.parametrize("size", SIZES)
def test_videomae_sees_squares_normalised_as_imagenet(size):
  clip = clip_of(*size)
  wanted = resized(square(clip), (32, 32), antialias=True) / 255
  mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
  same_levels(seen("videomae", clip), (wanted - mean) / std, 1 / 57)


@pytest.mark.parametrize("size", SIZES)
def test_transnet_sees_whole_frames(size):
  clip = clip_of(*size)
  wanted = resized(clip, (27, 48), antialias=True)
  same_levels(seen("transnetv2", clip), wanted / 127.5 - 1, 1 / 127.5)


@pytest.mark.parametrize("size", SIZES)
def test_c3d_sees_the_middle_less_a_mean_in_its_order(size):
  clip = clip_of(*size)
  wanted = resized(clip, (128, 171), antialias=False)[:, 8:120, 29:141]
  same_levels(seen("c3d", clip), wanted[..., ::-1] - [90, 98, 102])
  other = seen("c3d", clip, order="rgb", mean=[104.0, 117.0, 128.0])
  same_levels(other, wanted - [104, 117, 128])


@pytest.mark.parametrize("kind", ["i3d", "efficientnet-lite0", "transnetv2"])
def test_black_and_white_are_the_ends_of_the_range(kind):
  for level, end in ((0, -1), (255, 1)):
    clip = np.full((2, 40, 50, 3), level, np.uint8)
    np.testing.assert_allclose(seen(kind, clip), end, atol=1e-6)


@pytest.mark.parametrize("by_frame", [True, False])
def test_features_of_many_frames(by_frame):
  """Of frames by themselves the mean; more of them than are seen at once."""
  kind = dataclasses.replace(
    KINDS["transnetv2"],
    by_frame=by_frame,
    network=lambda params, config, x: (
      params * x.mean(axis=tuple(range(1, x.ndim - 1)))
    ),
  )
  clip = jnp.asarray(
    clip_of(transnet.HEIGHT, transnet.WIDTH, frames=19), jnp.float32
  )
  found = jax.jit(lambda p, x: kind.features(p, {}, x))(3.0, clip)
  wanted = 3 * (clip.mean(axis=(0, 1, 2)) / 127.5 - 1)
  np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
  ("kind", "frames", "message"),
  [
    ("i3d", 8, "i3d sees 9 frames or more, not 8"),
    ("transnetv2", 1, "transnetv2 sees 2 frames or more, not 1"),
    ("efficientnet-lite0", 0, "sees 1 frames or more, not 0"),
    ("c3d", 15, "c3d sees 16 frames, not 15"),
    ("c3d", 17, "c3d sees 16 frames, not 17"),
    ("videomae", 17, "videomae sees 16 frames, not 17"),
  ],
)
def test_clips_of_other_lengths_are_refused(kind, frames, message):
  extractor = Extractor(kind, {}, CONFIGS.get(kind, {}), "")
  with pytest.raises(UserError, match=message):
    extractor(clip_of(40, 50, frames))


def saved(path, config, params=None):
  if params is None:
    params = {"norm": {"scale": np.ones(3, np.float32)}}
  folder.save(path, params, config, "none")
  return str(path)


def test_features_have_the_same_bits_whatever_they_are_loaded_with(tmp_path):
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32),
    transnet.abstract_params(),
  )
  config = {"features": {"kind": "transnetv2"}}
  extractor = extractors.load(saved(tmp_path / "net", config, params))
  info = folder.load_info(tmp_path / "net")
  assert (extractor.fingerprint, extractor.frames) == (info.fingerprint, 2)
  assert extractor.known.title == "TransNet"
  found = extractor(clip_of(54, 96, 3))
  assert found.shape == (extractor.dimensions,) == (transnet.DIMENSIONS,)
  again = Extractor("transnetv2", params, {}, info.fingerprint)
  np.testing.assert_array_equal(again(clip_of(54, 96, 3)), found)


@pytest.mark.parametrize(
  ("config", "message"),
  [
    ({}, "holds no feature network .* none of i3d, videomae"),
    ({"features": "i3d"}, "holds no feature network"),
    ({"features": {"kind": "clip"}}, "holds no feature network"),
    ({"text_encoder": {"kind": "t5"}}, "holds no feature network"),
    ({"features": {"kind": "c3d"}}, "no whole configuration of c3d: 'classes'"),
    (
      {"features": {"kind": "videomae", "depth": 3}},
      "no whole configuration of videomae: .*'depth'",
    ),
    ({"features": {"kind": "i3d"}}, "holds other parameters than those of i3d"),
  ],
)
def test_folders_of_something_else_are_refused(tmp_path, config, message):
  with pytest.raises(UserError, match=message) as told:
    extractors.load(saved(tmp_path / "net", config))
  assert str(tmp_path / "net") in str(told.value)
  assert "\n" not in str(told.value)


def test_what_is_no_folder_or_was_changed_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"cannot read .*nowhere"):
    extractors.load(str(tmp_path / "nowhere"))
  path = saved(tmp_path / "net", {"features": {"kind": "i3d"}})
  info = json.loads((tmp_path / "net" / "info.json").read_text())
  info["fingerprint"] = "0" * 64
  (tmp_path / "net" / "info.json").write_text(json.dumps(info))
  with pytest.raises(UserError, match="were changed after they were saved"):
    extractors.load(path)
