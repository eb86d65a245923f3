# SPDX-License-Identifier: Apache-2.0
"""Both stages of training, sampling and evaluation, as commands, on little.

Needs the text encoder's package; everything else is in the repository.
"""

import json
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lumiere_jax import trees, trials
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.weights import folder
from tests.running import running

pytestmark = pytest.mark.full

SPRITES = pathlib.Path(__file__).parent / "fixtures" / "sprites"
SMALL = [
  "--config.model.block_out_channels=(16,16)",
  "--config.model.attention=(False,True)",
  "--config.model.attention_head_dim=16",
  "--config.model.cross_attention_dim=32",
  "--config.text.batch_size=8",
  "--config.data.config=tiny",
  "--config.data.num_frames=16",
  "--config.data.size_px=16",
  "--config.train.warmup_steps=2",
  "--config.train.log_every=2",
  "--config.train.checkpoint_every=4",
]


def started(program, *args):
  return running(
    [sys.executable, "-m", f"lumiere_jax.{program}", *map(str, args)],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def run(program, *args):
  with started(program, *args) as process:
    printed, _ = process.communicate(timeout=900)
  assert process.returncode == 0, printed
  return printed


def losses(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [(line["step"], line["loss"]) for line in map(json.loads, lines)]


@pytest.fixture(scope="module")
def where(tmp_path_factory, minilm):
  path = tmp_path_factory.mktemp("end_to_end")
  run(
    "data.write",
    "--dataset=emoji_motion",
    "--config=tiny",
    f"--sprites={SPRITES}",
    f"--data_dir={path / 'data'}",
  )
  return path


def train(stage, where, workdir, steps, *args):
  return (
    f"--config=configs/demo_{stage}.py",
    f"--workdir={where / workdir}",
    f"--config.data.data_dir={where / 'data'}",
    f"--config.train.steps={steps}",
    *SMALL,
    *args,
  )


@pytest.fixture(scope="module")
def image_weights(where):
  run("train", *train("t2i", where, "t2i", 12, "--config.train.batch_size=8"))
  return where / "t2i" / "weights"


VIDEO = [
  "--config.train.batch_size=2",
  "--config.model.temporal.attention_head_dim=16",
]


@pytest.fixture(scope="module")
def video_weights(where, image_weights):
  run(
    "train",
    *train("t2v", where, "t2v", 8, *VIDEO),
    f"--init_from={image_weights}",
    "--config.train.sample_every=8",
    "--config.train.sample_prompts=('a frog spinning',)",
  )
  return where / "t2v" / "weights"


@pytest.fixture(scope="module")
def cond_weights(where, video_weights):
  run(
    "train",
    *train("cond", where, "cond", 4, *VIDEO),
    f"--init_from={video_weights}",
    "--config.train.sample_every=4",
    "--config.train.sample_prompts=('a frog spinning',)",
  )
  assert (where / "cond" / "samples" / "step_0000004_0.webp").is_file()
  return where / "cond" / "weights"


def test_stopped_and_resumed_is_as_if_never_stopped(where, image_weights):
  """SIGTERM in the middle; the same command again ends with equal weights."""
  command = train("t2i", where, "stopped", 12, "--config.train.batch_size=8")
  metrics = where / "stopped" / "metrics.jsonl"
  deadline = time.monotonic() + 600
  with started("train", *command) as process:
    while time.monotonic() < deadline and not (
      metrics.exists() and metrics.read_text().count("\n") >= 2
    ):
      assert process.poll() is None, process.stdout.read()
      time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=300)
  assert process.returncode == 143, printed
  assert "stopped by SIGTERM" in printed
  run("train", *command)
  assert losses(where / "stopped") == losses(where / "t2i")
  _, _, once = folder.load(image_weights)
  _, _, twice = folder.load(where / "stopped" / "weights")
  assert once == twice


def test_stage_two_leaves_the_image_model_as_it_was(
  image_weights, video_weights, where
):
  image, _, _ = folder.load(image_weights)
  video, _, _ = folder.load(video_weights)
  spatial = trees.flatten(trees.split(video, is_temporal)[1])
  image = trees.flatten(image)
  assert set(spatial) == set(image)
  for path, leaf in image.items():
    leaf = leaf.astype(np.float16)  # In which stage 2 writes its weights.
    np.testing.assert_array_equal(spatial[path], leaf, err_msg=path)
  samples = where / "t2v" / "samples"
  assert (samples / "step_0000008.png").is_file()
  assert (samples / "step_0000008_0.webp").is_file()


def test_samples_replay_bit_for_bit_in_another_process(video_weights, where):
  out = where / "out"
  run(
    "sample",
    f"--weights={video_weights}",
    "--prompt=a frog spinning",
    "--steps=3",
    "--raw",
    f"--out={out}",
  )
  run("sample", f"--replay={out / 'a-frog-spinning-0.json'}", f"--out={out}")
  first, again = (
    np.load(out / f"a-frog-spinning-0{end}.npy") for end in ("", "-1")
  )
  assert first.shape == (16, 16, 16, 3)
  np.testing.assert_array_equal(first, again)


def test_evaluation_report(video_weights, cond_weights, where):
  out = where / "metrics.json"
  run(
    "evaluate",
    "--config=configs/demo.py",
    f"--weights={video_weights}",
    f"--config.conditional={cond_weights}",
    f"--config.data.data_dir={where / 'data'}",
    "--config.sampler.steps=2",
    "--num_clips=3",
    "--allow_small",
    f"--clips={where / 'clips'}",
    f"--out={out}",
  )
  report = json.loads(out.read_text())
  for row in ("seen", "held_out", "real", "shuffled"):
    assert report[row]["n"] == 3
    for field in (
      "background_accuracy",
      "movement_accuracy",
      "object_r1",
      "object_r5",
      "flicker",
    ):
      assert field in report[row]
  assert report["real"]["background_accuracy"] == 1.0
  assert len(list((where / "clips").glob("*.npy"))) == 6
  for task in trials.PROTOCOL:
    assert report[task]["n"] == 3
    assert report[task].get("given_exact", 1) == 1
    assert len(list((where / "clips" / task).glob("*.npy"))) == 3


def test_other_data_or_model_is_refused_on_resume(where, image_weights):
  with started(
    "train",
    *train("t2i", where, "t2i", 12, "--config.train.batch_size=8"),
    "--config.train.learning_rate=0.5",
  ) as process:
    printed, _ = process.communicate(timeout=300)
  assert process.returncode == 2
  assert "train.learning_rate" in printed and "Traceback" not in printed
