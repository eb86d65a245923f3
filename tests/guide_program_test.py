# SPDX-License-Identifier: Apache-2.0
"""Autoguidance by the command line and the library, on random weights."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from lumiere_jax import Lumiere, build, media, sample, sharding, trees
from lumiere_jax.config import SamplerConfig, from_dict, to_dict
from lumiere_jax.data import loader
from lumiere_jax.errors import UserError
from lumiere_jax.evaluators import Samples
from lumiere_jax.inference.generate import Text
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.studio import Studio
from lumiere_jax.weights import folder
from tests.models import nets
from tests.models.toy import CONFIG
from tests.text.hash_encoder import HashTextEncoder

# One level, for speed; `inference/guide_test.py` has a guide of fewer levels.
MODEL = {**CONFIG["model"], "block_out_channels": (16,), "attention": (True,)}
BASE = {
  **CONFIG,
  "model": MODEL,
  "data": {"num_frames": 4, "size_px": 8},
  "sampler": {"name": "ddim", "steps": 2, "guidance": 2.0},
}
COND = {
  **BASE,
  "model": {**MODEL, "in_channels": 7},
  "condition": {"kind": "mask"},
}
UPSCALER = {
  **BASE,
  "model": {**MODEL, "in_channels": 6, "class_embed_type": "timestep"},
  "condition": {"kind": "low_res", "scale": 2},
  "data": {"num_frames": 4, "size_px": 16},
}
SMALL = {**BASE, "model": {**MODEL, "block_out_channels": (8,)}}
LEVELS = {"block_out_channels": (8,) * 5, "attention": (False,) * 5}
DEEP = {"model": {**MODEL, **LEVELS}}
IMAGE = {"model": {**MODEL, "temporal": None}, "train": {"stage": "image"}}
# What cannot be a guide of the base's clips, and why: what its configuration
# says. All hold the base's own spatial part.
OTHERS = {
  "cond": (COND, "has condition.kind='mask', but '.*base' has 'none'"),
  "eps": (
    {"diffusion": {"prediction": "eps"}},
    "has diffusion.prediction='eps', but '.*base' has 'v'",
  ),
  "linear": (
    {"diffusion": {"schedule": {"name": "linear"}}},
    "diffusion.schedule.name='linear', but '.*base' has 'cosine'",
  ),
  "t5": (
    {"text": {"encoder": "t5"}},
    "has text.encoder='t5', but '.*base' has 'minilm'",
  ),
  "lower": (
    {"text": {"lower_case": True}},
    "has text.lower_case=True, but '.*base' has False",
  ),
  "wide": (
    {"model": {**MODEL, "encoder_hid_dim": 12}},
    "has model.encoder_hid_dim=12, but '.*base' has 8",
  ),
  "deep": (
    {**DEEP, "data": {"num_frames": 16, "size_px": 16}},
    ": data.size_px=8 must be a multiple of 16",
  ),
  "image": (IMAGE, ": task 'text_to_video' needs a model of clips"),
}
pytestmark = pytest.mark.usefixtures("hashed_text")


def save(path, values, params=None):
  cfg = from_dict(values)
  params = nets.randomised(cfg.model) if params is None else params
  folder.save(path, params, to_dict(cfg), "licence")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """Weights of a base, of one that names an upscaler, and of guides."""
  root = tmp_path_factory.mktemp("weights")
  save(root / "base", BASE)
  save(root / "small", SMALL)
  save(root / "ssr", UPSCALER)
  named = {"upscaler": str(root / "ssr"), "conditional": str(root / "cond")}
  save(root / "cascade", {**BASE, **named})
  spatial = trees.split(nets.randomised(from_dict(BASE).model), is_temporal)[1]
  for name, (values, _) in OTHERS.items():
    save(root / name, {**BASE, **values}, spatial)
  return root


def guided(path, scale=1.5):
  flags = {"guide": path, "guide_scale": scale}
  return [f"--config.sampler.{name}={value}" for name, value in flags.items()]


def program(weights, out, *options, name="base"):
  flags = [f"--weights={weights / name}", "--prompt=a cat", f"--out={out}"]
  sample.main([*flags, "--raw", *options])
  sidecar = json.loads((out / "a-cat-0.json").read_text())
  return np.load(out / "a-cat-0.npy"), sidecar


def refused_replay(tmp_path, sidecar, kind, **changes):
  path = tmp_path / "other.json"
  path.write_text(json.dumps({**sidecar, **changes}))
  with pytest.raises(
    UserError, match=f"made with {kind} ffffffffffff"
  ) as error:
    sample.main([f"--replay={path}", f"--out={tmp_path / 'refused'}"])
  assert "\n" not in str(error.value)


def test_a_smaller_guide_makes_another_clip(weights, tmp_path):
  plain, before = program(weights, tmp_path / "plain")
  assert before["guide_fingerprint"] is None
  # At scale 1 none is looked for.
  none, _ = program(weights, tmp_path / "none", *guided("nowhere", 1.0))
  np.testing.assert_array_equal(none, plain)
  clip, sidecar = program(weights, tmp_path / "o", *guided(weights / "small"))
  assert clip.shape == plain.shape
  assert np.abs(clip.astype(int) - plain).max() > 5
  info = folder.load_info(weights / "small")
  assert sidecar["guide_fingerprint"] == info.fingerprint
  again = tmp_path / "again"
  sample.main([f"--replay={tmp_path / 'o' / 'a-cat-0.json'}", f"--out={again}"])
  np.testing.assert_array_equal(np.load(again / "a-cat-0.npy"), clip)
  refused_replay(tmp_path, sidecar, "guide", guide_fingerprint="f" * 64)


def test_images_and_a_guide_that_is_loaded_once(weights, monkeypatch):
  """Of a guide of clips the spatial part, and one of images is one too."""
  model = Lumiere.load(str(weights / "base"))
  loaded, load = [], build.load_params

  def load_params(name, *args):
    loaded.append(name)
    return load(name, *args)

  monkeypatch.setattr(build, "load_params", load_params)

  def images(name, scale=1.5):
    sampler = replace(
      model.config.sampler, guide=str(weights / name), guide_scale=scale
    )
    return model.generate(
      ["a cat"], task="text_to_image", sampler=sampler
    ).astype(int)

  plain = model.generate(["a cat"], task="text_to_image").astype(int)
  # The network itself changes nothing, but rounds otherwise in a double batch.
  assert np.abs(images("base") - plain).max() <= 1
  assert np.abs(images("image") - plain).max() <= 1
  half, whole = images("small", 1.5), images("small", 2.0)
  assert plain.shape == half.shape == (1, 8, 8, 3)
  assert np.abs(half - plain).max() > 5 and np.abs(half - whole).max() > 5
  assert loaded == [str(weights / n) for n in ("base", "image", "small")]


@pytest.mark.parametrize("name", OTHERS)
def test_a_guide_of_another_kind_is_refused(weights, tmp_path, name):
  options = guided(weights / name)
  message = rf"^sampler.guide='.*{name}'.*{OTHERS[name][1]}"
  with pytest.raises(UserError, match=message) as error:
    program(weights, tmp_path / "out", *options)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (guided("nowhere"), "no weights in 'nowhere'"),
    (guided("", 1.5), "sampler.guide_scale=1.5 needs sampler.guide"),
    (guided("base", 0.5), "sampler.guide_scale=0.5 must be >= 1"),
  ],
)
def test_other_mistakes_are_one_line(weights, tmp_path, options, message):
  with pytest.raises(UserError, match=message) as error:
    program(weights, tmp_path / "out", *options)
  assert "\n" not in str(error.value)


def test_the_conditional_model_needs_a_guide_of_its_kind(weights, tmp_path):
  image = np.zeros((8, 8, 3), np.uint8)
  media.write_png(tmp_path / "a.png", image)
  task = ["--task=image_to_video", f"--image={tmp_path / 'a.png'}"]
  options = [*task, *guided(weights / "small"), "--config.upscaler="]
  message = "has condition.kind='none', but '.*cond' has 'mask'"
  with pytest.raises(UserError, match=message):
    program(weights, tmp_path / "out", *options, name="cascade")


def test_the_upscaler_has_a_guide_of_its_own(weights, tmp_path):
  task = ["--task=text_to_image"]
  sampler = {**UPSCALER["sampler"], "guide": str(weights / "ssr")}
  sampler["guide_scale"] = 1.5
  flag = f"--config.upscaler_sampler={sampler}"
  _, sidecar = program(weights, tmp_path / "o", *task, flag, name="cascade")
  found = sidecar["upscaler_guide_fingerprint"]
  assert found == folder.load_info(weights / "ssr").fingerprint
  assert sidecar["guide_fingerprint"] is None
  refused_replay(
    tmp_path,
    sidecar,
    "upscaler_guide",
    upscaler_guide_fingerprint="f" * 64,
  )


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("base", "has condition.kind='none', but '.*ssr' has 'low_res'"),
    ("quarter", "has condition.scale=4, but '.*ssr' has 2"),
  ],
)
def test_the_upscaler_needs_a_guide_of_its_kind(
  weights, tmp_path, name, message
):
  condition = {**UPSCALER["condition"], "scale": 4}
  save(tmp_path / "quarter", {**UPSCALER, "condition": condition}, {})
  where = {"base": weights / "base", "quarter": tmp_path / "quarter"}[name]
  sampler = SamplerConfig(guide=str(where), guide_scale=1.5)
  config = from_dict(folder.load_config(weights / "cascade"))
  model = Lumiere(
    replace(config, upscaler_sampler=sampler),
    {},
    folder.Info(fingerprint="", num_params=0),
  )
  with pytest.raises(UserError, match=f"^upscaler_sampler.guide=.*{message}"):
    model.for_task("upscale")


def test_the_kept_clips_of_an_evaluation_are_those_of_the_guide(
  weights, tmp_path, monkeypatch
):
  monkeypatch.setattr(loader, "fingerprint", lambda cfg: "data")
  guide, clips = tmp_path / "guide", str(tmp_path / "clips")
  shutil.copytree(weights / "small", guide)
  model = Lumiere.load(str(weights / "base"))
  sampler = replace(model.config.sampler, guide=str(guide), guide_scale=1.5)
  studio = Studio(replace(model.config, sampler=sampler), 0, clips)
  studio.maker(model, "text_to_video", "row", 3)
  studio.maker(model, "text_to_video", "row", 3)  # The same again.
  found = studio.made_with(model)["guide_fingerprint"]
  assert found == folder.load_info(guide).fingerprint
  shutil.rmtree(guide)
  save(guide, SMALL, nets.randomised(from_dict(SMALL).model, seed=2))
  with pytest.raises(UserError, match="made with guide_fingerprint="):
    studio.maker(model, "text_to_video", "row", 3)
  plain = Studio(model.config, 0, None).made_with(model)
  assert "guide_fingerprint" not in plain


def test_training_samples_without_its_guide(tmp_path):
  sampler = {**BASE["sampler"], "guide": "nowhere", "guide_scale": 1.5}
  cfg = from_dict({**BASE, **IMAGE, "sampler": sampler})
  encoder = HashTextEncoder(width=8)
  samples = Samples.of(cfg, encoder, tmp_path, sharding.make_mesh())
  text = Text(*encoder.encode(["a cat"]))
  params = build.abstract_params(cfg.model)
  lowered = samples.generator.lower(params, text, Text(*encoder.empty))
  assert lowered.out_info.x.shape == (1, 8, 8, 3)
