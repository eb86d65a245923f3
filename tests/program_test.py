# SPDX-License-Identifier: Apache-2.0
"""The command line and the library, on a network of random weights."""

import json
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from lumiere_jax import Lumiere, cli, evaluate, initial, sample, train
from lumiere_jax.config import from_dict, to_dict
from lumiere_jax.errors import UserError
from tests.models import toy
from tests.models.toy import CONFIG

pytestmark = pytest.mark.usefixtures("hashed_text")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """A weights folder of the toy network."""
  return toy.save(tmp_path_factory.mktemp("toy") / "weights")


@pytest.fixture(scope="module")
def shared():
  """Compiled models, so that each is compiled for one test only."""
  return {}


@pytest.fixture
def model(weights, shared):
  if "model" not in shared:
    shared["model"] = Lumiere.load(str(weights))
  return shared["model"]


@pytest.fixture
def run(weights, monkeypatch, model):
  """Runs the sampling program; loading weights gives the compiled model."""

  def from_config(config):
    other = to_dict(config)["sampler"] != to_dict(model.config)["sampler"]
    if other or config.data != model.config.data:
      return Lumiere(config, model._params, model.info)
    return model

  monkeypatch.setattr(Lumiere, "from_config", from_config)

  def program(out, *args):
    sample.main([f"--weights={weights}", f"--out={out}", *args])
    return sorted(path.name for path in out.iterdir())

  return program


def test_a_clip_and_all_that_belongs_to_it(run, tmp_path, capsys):
  prompt = "--prompt=A ghost, spinning!"
  names = run(tmp_path, prompt, "--seed=3", "--raw")
  stem = "a-ghost-spinning-0"
  ends = [".json", ".mp4", ".npy", ".png", ".webp"]
  assert names == [stem + end for end in ends]
  printed = capsys.readouterr().out
  assert all(str(tmp_path / name) in printed for name in names)

  clip = np.load(tmp_path / f"{stem}.npy")
  assert clip.shape == (80, 8, 8, 3) and clip.dtype == np.uint8
  with av.open(str(tmp_path / f"{stem}.mp4")) as container:
    stream = container.streams.video[0]
    assert stream.codec_context.name == "h264"
    assert stream.average_rate == 16
    assert float(stream.duration * stream.time_base) == 5.0
    assert sum(1 for _ in container.decode(stream)) == 80
  with Image.open(tmp_path / f"{stem}.webp") as webp:
    assert webp.n_frames == 80
    np.testing.assert_array_equal(np.asarray(webp.convert("RGB")), clip[0])

  sidecar = json.loads((tmp_path / f"{stem}.json").read_text())
  assert sidecar["prompt"] == "A ghost, spinning!"
  assert sidecar["seed"] == 3
  assert from_dict(sidecar["config"]).sampler.steps == 3
  assert set(sidecar["timings"]) == {
    "load_seconds",
    "compile_seconds",
    "run_seconds",
  }
  assert sidecar["versions"]["jax"]


def test_replay_makes_the_same_clip_beside_the_first(run, tmp_path):
  run(tmp_path, "--prompt=a frog", "--negative_prompt=red", "--raw")
  names = run(tmp_path, f"--replay={tmp_path / 'a-frog-0.json'}")
  assert "a-frog-0-1.npy" in names
  first, again = (
    np.load(tmp_path / f"a-frog-0{end}.npy") for end in ("", "-1")
  )
  np.testing.assert_array_equal(first, again)


def test_a_prompt_that_is_cut_is_told(model):
  with pytest.warns(UserWarning, match="only the first .* tokens of 'a a"):
    model.generate(["a " * 200], task="text_to_image")


def test_images(run, tmp_path):
  prompts = tmp_path / "prompts.txt"
  prompts.write_text("a cat\n\na dog\n")
  out = tmp_path / "out"
  out.mkdir()
  names = run(out, "--task=text_to_image", f"--prompts={prompts}")
  assert names == ["a-cat-0.json", "a-cat-0.png", "a-dog-0.json", "a-dog-0.png"]
  with Image.open(out / "a-cat-0.png") as image:
    assert image.size == (8, 8)


def test_a_clip_does_not_depend_on_what_is_made_beside_it(model):
  alone = model.generate(["a frog"], seed=5)
  both = model.generate(["a cat", "a frog"], seed=5, num_samples=2)
  assert alone.shape == (1, 80, 8, 8, 3) and both.shape[0] == 4
  np.testing.assert_array_equal(alone[0], both[2])
  assert (both[2] != both[3]).any() and (both[0] != both[2]).any()
  other = model.generate(["a frog"], seed=6)
  assert (alone != other).any()


def test_batches_give_the_same_clips(model):
  one = model.generate(["a cat", "a frog", "a dog"], seed=1)
  two = model.generate(["a cat", "a frog", "a dog"], seed=1, batch_size=2)
  assert one.shape == two.shape
  # Other batch sizes round differently: at most one grey level.
  assert np.abs(one.astype(int) - two.astype(int)).max() <= 1


def test_second_request_does_not_recompile(model):
  model.generate(["a cat"])
  generator = model.generator("text_to_video")
  before = generator._advance._cache_size()
  model.generate(["something else entirely"], seed=9, negative_prompt="blue")
  assert generator._advance._cache_size() == before


def test_step_by_step_is_the_same_program_and_clip(model):
  from lumiere_jax.inference.prompt import Request

  steps = []
  batch = [Request("a cat", 0)]
  whole = model.run(batch, seed=0)
  stepwise = model.run(batch, seed=0, on_step=lambda: steps.append(1))
  np.testing.assert_array_equal(whole, stepwise)
  assert len(steps) == 3


@pytest.mark.parametrize(
  ("args", "message"),
  [
    ([], "no prompt"),
    (["--prompt= "], "is empty"),
    (["--prompts=missing.txt"], "cannot read prompts file 'missing.txt'"),
    (["--prompt=a", "--task=fly"], "unknown --task='fly'.*text_to_image"),
    (["--prompt=a", "--sampler=dimm"], "did you mean 'ddim'"),
    (["--prompt=a", "--steps=0"], "sampler.steps=0"),
    (["--prompt=a", "--steps=x"], "steps"),
    (["--prompt=a", "--num_samples=0"], "num_samples=0"),
    (["--prompt=a", "--guidance=nan"], "--guidance.*nan"),
    (["--prompt=a", "--seed=-1"], "--seed=-1"),
    (["--prompt=a", "--config.data.num_frames=81"], "num_frames=81.*multiple"),
    (["--prompt=a", "--config.sampler.stepz=3"], "did you mean 'steps'"),
    (["--prompt=a", "--frobnicate"], "unknown argument '--frobnicate'"),
    (["--prompt=a", "--config=no/such.py"], "no config file"),
    (["--prompt=a", "--weights=nowhere"], "no weights in 'nowhere'"),
    (["--prompt=a", "--config.weights=demo"], "give --weights=DIR"),
    (["--replay=nothing.json"], "cannot replay 'nothing.json'"),
    (["--replay=a.json", "--steps=4"], "it does not go with --steps"),
    (["--replay=a.json", "--seed=0"], "it does not go with --seed"),
    (["--replay=a.json", "--config.data.fps=8"], "go with --config.data.fps"),
  ],
)
def test_mistakes_are_one_line_and_write_nothing(
  weights, tmp_path, args, message
):
  out = tmp_path / "out"
  with pytest.raises(UserError, match=message) as error:
    sample.main([f"--weights={weights}", f"--out={out}", *args])
  assert "\n" not in str(error.value)
  assert not out.exists() or not list(out.iterdir())


def test_an_empty_name_is_no_folder(weights, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match="--out is empty"):
    sample.main([f"--weights={weights}", "--prompt=a", "--out="])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("program", "flag"),
  [
    ("sample", "--prompt=a"),
    ("train", "--workdir=w"),
    ("evaluate", "--seed=1"),
  ],
)
def test_a_mistake_has_no_traceback(program, flag):
  result = subprocess.run(
    [
      sys.executable,
      "-m",
      f"lumiere_jax.{program}",
      "--config=no/such.py",
      flag,
    ],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert result.returncode == 2
  lines = result.stderr.strip().splitlines()
  assert len(lines) == 1, result.stderr
  assert lines[0].startswith("error: no config file 'no/such.py'")


def test_evaluation_refuses_an_existing_report_at_once(weights, tmp_path):
  report = tmp_path / "metrics.json"
  report.write_text("{}")
  with pytest.raises(UserError, match="exists already"):
    evaluate.main(
      [
        "--config=configs/demo.py",
        f"--weights={weights}",
        f"--out={report}",
        f"--config.data.data_dir={tmp_path}",
      ]
    )
  assert report.read_text() == "{}"


def test_dry_run_of_training_tells_everything(capsys):
  train.main(["--config=configs/demo_t2v.py", "--dry_run"])
  printed = capsys.readouterr().out
  assert '"stage": "video"' in printed
  assert '"init_from": "runs/t2i/weights"' in printed
  for line in printed.splitlines():
    if line.startswith(("train ", "frozen ")):
      assert line.startswith("train ") == ("temporal_" in line), line
  assert "pixels (4, 80, 32, 32, 3) uint8" in printed


def test_dry_run_looks_at_the_weights_it_is_to_begin_from(weights):
  options = ["--config=configs/demo_t2v.py", "--dry_run"]
  with pytest.raises(UserError, match="no weights in 'nowhere'"):
    train.main([*options, "--init_from=nowhere"])
  with pytest.raises(UserError, match="trained with other settings"):
    train.main([*options, f"--init_from={weights}"])


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"prompts": []}, "must be a list of prompts"),
    ({"prompts": "a cat"}, "must be a list of prompts"),
    ({"prompts": ["a cat"], "batch_size": 0}, "batch_size=0"),
  ],
)
def test_the_library_refuses_what_it_cannot_make(model, options, message):
  with pytest.raises(UserError, match=message):
    model.generate(**options)


def test_training_does_not_begin_from_weights_of_another_kind(weights):
  model = {**CONFIG["model"], "act_fn": "silu"}
  values = {**CONFIG, "model": model}
  values["train"] = {**CONFIG.get("train", {}), "init_from": str(weights)}
  with pytest.raises(UserError, match="act_fn='silu', there 'gelu'"):
    initial.initial_params(from_dict(values))


def test_a_workdir_that_cannot_be_is_told_before_the_work(tmp_path):
  (tmp_path / "file").write_text("")
  inside = str(tmp_path / "file" / "run")
  with (
    pytest.raises(UserError, match="cannot write to --workdir="),
    cli.output_folder("--workdir", inside),
  ):
    pass


def test_refused_training_leaves_no_workdir(tmp_path):
  workdir = tmp_path / "run"
  options = ["--config=configs/demo_t2i.py", f"--workdir={workdir}"]
  with pytest.raises(UserError, match="nowhere"):
    train.main([*options, f"--config.data.data_dir={tmp_path}/nowhere"])
  assert not workdir.exists()


def test_image_weights_make_no_clips(tmp_path, model):
  config = from_dict(
    {
      **CONFIG,
      "model": {**CONFIG["model"], "temporal": None},
      "train": {"stage": "image"},
    }
  )
  image_model = Lumiere(config, {}, model.info)
  with pytest.raises(UserError, match="text_to_image"):
    image_model.generate(["a cat"])
