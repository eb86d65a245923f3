# SPDX-License-Identifier: Apache-2.0
"""The cascade by the command line, on networks of random weights."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lumiere_jax import (
  Lumiere,
  encoders,
  evaluate,
  linked,
  media,
  sample,
)
from lumiere_jax.conditioning.task import Material
from lumiere_jax.config import from_dict, to_dict
from lumiere_jax.data import loader
from lumiere_jax.data.loader import LabelledClip
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder
from tests.models import nets
from tests.models.toy import CONFIG

BASE = {
  **CONFIG,
  "data": {"num_frames": 8, "size_px": 8},
  "sampler": {"name": "ddim", "steps": 2, "guidance": 2.0},
}
UPSCALER = {
  **BASE,
  "name": "toy_ssr",
  "model": {
    **BASE["model"],
    "in_channels": 6,
    "class_embed_type": "timestep",
    "temporal": {**BASE["model"]["temporal"], "resample": False},
  },
  "condition": {"kind": "low_res", "scale": 2},
  "data": {"num_frames": 8, "size_px": 16},
  "windows": {"frames": 4, "overlap": 1},
  "sampler": {"name": "ddim", "steps": 3, "guidance": 1.0},
}
COND = {
  **BASE,
  "model": {**BASE["model"], "in_channels": 7},
  "condition": {"kind": "mask"},
}
pytestmark = pytest.mark.usefixtures("hashed_text")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """Weights of a base that names its conditional model and its upscaler."""
  root = tmp_path_factory.mktemp("weights")
  names = {"conditional": str(root / "cond"), "upscaler": str(root / "ssr")}
  for name, values in (
    ("base", {**BASE, **names}),
    ("plain", BASE),
    ("cond", COND),
    ("ssr", UPSCALER),
  ):
    cfg = from_dict(values)
    folder.save(root / name, nets.randomised(cfg.model), to_dict(cfg), "l")
  return root


def program(weights, out, *options, name="base"):
  flags = [f"--weights={weights / name}", "--prompt=a cat", f"--out={out}"]
  sample.main([*flags, "--raw", *options])
  sidecar = json.loads((out / "a-cat-0.json").read_text())
  return np.load(out / "a-cat-0.npy"), sidecar


def test_a_prompt_becomes_a_small_clip_and_a_large_one(weights, tmp_path):
  out = tmp_path / "out"
  large, sidecar = program(weights, out)
  small = np.load(out / "a-cat-0.low.npy")
  assert large.shape == (8, 16, 16, 3) and small.shape == (8, 8, 8, 3)
  plain, _ = program(weights, tmp_path / "plain", name="plain")
  np.testing.assert_array_equal(small, plain)
  names = {p.name.removeprefix("a-cat-0") for p in out.iterdir()}
  kinds = {".mp4", ".webp", ".png", ".npy"}
  assert names == kinds | {f".low{kind}" for kind in kinds} | {".json"}
  assert set(sidecar["segments"]) == {
    *("border_mse", "other_mse", "ratio", "low_res_ratio")
  }
  assert len(sidecar["upscaler_fingerprint"]) == 64
  # The same again, and the same by enlarging the small clip by itself.
  again = tmp_path / "again"
  sample.main([f"--replay={out / 'a-cat-0.json'}", f"--out={again}"])
  np.testing.assert_array_equal(np.load(again / "a-cat-0.npy"), large)
  sidecar["upscaler_fingerprint"] = "f" * 64
  other = tmp_path / "other.json"
  other.write_text(json.dumps(sidecar))
  with pytest.raises(UserError, match="made with upscaler ffffffffffff"):
    sample.main([f"--replay={other}", f"--out={again}"])
  model = Lumiere.load(str(weights / "base"))
  from lumiere_jax.inference.prompt import Request

  enlarged = model.upscale(small[None], [Request("a cat", 0)], seed=0)
  np.testing.assert_array_equal(enlarged[0], large)


@pytest.mark.parametrize("name", ["base", "ssr"])
def test_a_video_is_enlarged_alone(weights, tmp_path, name):
  rng = np.random.default_rng(0)
  clip = rng.integers(0, 256, (8, 8, 8, 3), np.uint8)
  media.write_webp(tmp_path / "in.webp", clip, 16)
  flags = ["--task=upscale", f"--video={tmp_path / 'in.webp'}"]
  large, sidecar = program(weights, tmp_path / "o", *flags, name=name)
  assert large.shape == (8, 16, 16, 3)
  assert sidecar["config"]["sampler"]["steps"] == 3
  assert sidecar["segments"]["ratio"] > 0
  fewer, _ = program(weights, tmp_path / "p", *flags, "--steps=2", name=name)
  assert not np.array_equal(large, fewer)


def test_an_image_is_made_small_and_enlarged(weights, tmp_path):
  out = tmp_path / "out"
  large, sidecar = program(weights, out, "--task=text_to_image")
  assert large.shape == (16, 16, 3) and "segments" not in sidecar
  assert len(sidecar["upscaler_fingerprint"]) == 64
  small = np.load(out / "a-cat-0.low.npy")
  media.write_png(tmp_path / "small.png", small)
  flags = ["--task=upscale_image", f"--image={tmp_path / 'small.png'}"]
  for name in ("base", "ssr"):
    alone, _ = program(weights, tmp_path / name, *flags, name=name)
    np.testing.assert_array_equal(alone, large)


@pytest.mark.full
@pytest.mark.devices(2)
def test_a_clip_is_the_same_on_several_devices(weights):
  clip = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
  model = Lumiere.load(str(weights / "ssr"))
  wanted = model.generate(
    ["a cat"], task="upscale", material=Material(video=clip)
  )
  spread = replace(model.config.windows, devices=2)
  model = Lumiere.from_config(replace(model.config, windows=spread))
  found = model.generate(
    ["a cat"], task="upscale", material=Material(video=clip)
  )
  assert np.abs(found.astype(int) - wanted).max() <= 1
  many = replace(model.config, windows=replace(spread, devices=3))
  with pytest.raises(UserError, match=r"windows\.devices=3, but there are"):
    Lumiere.from_config(many).compile(task="upscale")


def test_pixels_given_large_come_back_exactly(weights, tmp_path):
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, (16, 16, 3), np.uint8)
  media.write_png(tmp_path / "a.png", image)
  flags = ["--task=image_to_video", f"--image={tmp_path / 'a.png'}"]
  out = tmp_path / "out"
  large, sidecar = program(weights, out, *flags)
  np.testing.assert_array_equal(large[0], image)
  small = np.load(out / "a-cat-0.low.npy")
  blocks = image.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3)).round()
  np.testing.assert_array_equal(small[0], blocks)
  assert "seam" in sidecar


def test_both_stages_are_set_apart(weights, tmp_path):
  out = tmp_path / "out"
  _, sidecar = program(
    weights,
    out,
    "--steps=1",
    "--config.upscaler_sampler={'name': 'ddim', 'steps': 2, 'guidance': 1.0}",
    "--config.upscaler_windows={'frames': 8}",
  )
  assert sidecar["segments"] is None  # There is but one.
  config = sidecar["config"]
  assert config["sampler"]["steps"] == 1
  assert config["upscaler_sampler"]["steps"] == 2


@pytest.mark.parametrize(
  ("name", "args", "message"),
  [
    (
      "plain",
      ["--task=upscale", "--video=a.mp4"],
      "needs weights that enlarge",
    ),
    ("base", ["--task=upscale"], "needs --video"),
    ("ssr", [], "is one that enlarges"),
    ("base", ["--config.upscaler=plain"], "no weights in 'plain'"),
    (
      "base",
      ["--config.upscaler_windows={'tile_px': 3}"],
      "^upscaler_windows.tile_px=3 must be a multiple of",
    ),
    (
      "base",
      ["--config.upscaler_sampler={'low_res_level': 1000}"],
      "^upscaler_sampler.low_res_level=1000 must be in 0",
    ),
  ],
)
def test_mistakes_are_one_line(weights, tmp_path, name, args, message):
  with pytest.raises(UserError, match=message) as error:
    program(weights, tmp_path / "out", *args, name=name)
  assert "\n" not in str(error.value)
  assert not (tmp_path / "out").exists()


def test_an_upscaler_of_another_size_is_refused(weights, tmp_path):
  cfg = from_dict({**UPSCALER, "data": {"num_frames": 8, "size_px": 32}})
  folder.save(tmp_path / "w", nets.randomised(cfg.model), to_dict(cfg), "l")
  with pytest.raises(UserError, match="enlarges clips of 16 pixels"):
    program(weights, tmp_path / "o", f"--config.upscaler={tmp_path / 'w'}")


def test_one_text_encoder_serves_all_stages(weights, monkeypatch):
  loaded, load = [], encoders.text_encoder

  def text_encoder(cfg):
    loaded.append(cfg)
    return load(cfg)

  monkeypatch.setattr(encoders, "text_encoder", text_encoder)
  model = Lumiere.load(str(weights / "base"))
  model.for_task("upscale")
  model.for_task("extend")
  assert len(loaded) == 1


def test_the_upscaler_reads_text_by_the_encoder_that_was_named(monkeypatch):
  config = from_dict({**BASE, "text": {"weights": "mine", "max_tokens": 30}})
  saved = {**UPSCALER, "text": {"lower_case": True, "max_tokens": 20}}
  monkeypatch.setattr(linked, "weights_config", lambda name: saved)
  text = linked.upscaler_config(replace(config, upscaler="ssr")).text
  assert (text.weights, text.lower_case, text.max_tokens) == ("mine", True, 20)


@pytest.fixture
def real_clips(monkeypatch):
  """A data set of four clips that move a little."""
  rng = np.random.default_rng(0)
  still = rng.integers(0, 256, (4, 1, 16, 16, 3), np.uint8)
  clips = [
    LabelledClip(
      video=np.concatenate([np.roll(x, i, axis=2) for i in range(8)]),
      caption="a cat sliding right on a red background",
      image_caption="a cat on a red background",
      emoji="cat",
      background="red",
      movement="slides right",
      phase=0,
    )
    for x in still
  ]
  read = []

  def read_clips(cfg, split, limit):
    read.append((cfg.size_px, cfg.data_dir, split))
    return clips[:limit]

  monkeypatch.setattr(loader, "read_clips", read_clips)
  monkeypatch.setattr(loader, "fingerprint", lambda cfg: "data")
  return read


def evaluation(weights, tmp_path, *options, name="base"):
  out = tmp_path / f"{name}.json"
  config = tmp_path / "config.py"
  config.write_text(
    "import ml_collections\ndef get_config():\n"
    f"  weights = {str(weights / name)!r}\n"
    "  return ml_collections.ConfigDict({'weights': weights})\n"
  )
  evaluate.main(
    [
      f"--config={config}",
      "--tasks=upscale",
      "--num_clips=3",
      "--allow_small",
      f"--out={out}",
      "--config.data.data_dir=here",
      *options,
    ]
  )
  return json.loads(out.read_text())


def test_evaluation_of_a_cascade_compares_with_filters(
  weights, tmp_path, real_clips, capsys
):
  report = evaluation(weights, tmp_path, f"--clips={tmp_path / 'clips'}")
  assert set(report) == {"upscale"}
  # Of the upscaler's size, from where the data set was said to lie.
  assert set(real_clips) == {(16, "here", "held_out")}
  rows = report["upscale"]
  assert set(rows) == {"protocol", "real", "still", "generated"}
  assert set(rows["real"]) == {"model", "bicubic", "lanczos", "real"}
  assert set(rows["generated"]) == {"model", "bicubic", "lanczos"}
  assert rows["real"]["lanczos"]["psnr_db"] > rows["real"]["model"]["psnr_db"]
  assert "psnr_db" not in rows["real"]["real"]
  assert rows["generated"]["model"]["seam_ratio"] > 0
  assert len(rows["real"]["model"]["neighbour_mse"]) == 7
  assert rows["protocol"]["segment_borders"] == [2, 3, 6]
  printed = capsys.readouterr().out
  assert "| real: lanczos | " in printed and "| generated: model | " in printed
  names = {p.name for p in (tmp_path / "clips").iterdir()}
  assert names == {
    *("upscale_real", "upscale_still", "upscale_generated", "to_enlarge")
  }


def test_settings_can_be_chosen_on_another_split(weights, tmp_path, real_clips):
  report = evaluation(weights, tmp_path, "--split=train")
  assert {split for _, _, split in real_clips} == {"train"}
  assert report["upscale"]["protocol"]["split"] == "train"


def test_kept_clips_are_measured_again(weights, tmp_path, real_clips):
  clips = f"--clips={tmp_path / 'clips'}"
  first = evaluation(weights, tmp_path, clips, name="ssr")
  assert set(first["upscale"]) == {"protocol", "real", "still"}
  kept = tmp_path / "clips" / "upscale_real" / "upscale_real-00000.npy"
  np.save(kept, np.zeros((8, 16, 16, 3), np.uint8))
  (tmp_path / "ssr.json").unlink()
  again = evaluation(weights, tmp_path, clips, name="ssr")
  psnr = [r["upscale"]["real"]["model"]["psnr_db"] for r in (first, again)]
  assert psnr[0] != psnr[1]
  (tmp_path / "ssr.json").unlink()
  with pytest.raises(UserError, match="made with windows="):
    evaluation(
      weights, tmp_path, clips, "--config.windows.overlap=0", name="ssr"
    )


def test_what_enlarges_nothing_is_not_measured_enlarging(
  weights, tmp_path, real_clips
):
  with pytest.raises(UserError, match="needs weights that enlarge"):
    evaluation(weights, tmp_path, name="plain")
  with pytest.raises(UserError, match="nowhere"):
    evaluation(weights, tmp_path, "--features=nowhere")
