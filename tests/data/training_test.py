# SPDX-License-Identifier: Apache-2.0
"""A run on a folder of clips, from the command line to the weights."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from lumiere_jax import feed, train
from lumiere_jax.config import from_dict
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder
from tests.data import clip_folder
from tests.models.toy import CONFIG
from tests.text.hash_encoder import HashTextEncoder

pytestmark = pytest.mark.usefixtures("hashed_text")


@pytest.fixture
def run(tmp_path):
  """Trains the toy network; the config file is written as a user would."""
  values = CONFIG | {"data": {"num_frames": 8, "size_px": 8, "fps": 8}}
  values["train"] = {
    "stage": "video",
    "batch_size": 2,
    "checkpoint_every": 2,
    "log_every": 1,
    "warmup_steps": 0,
  }
  config = tmp_path / "config.py"
  config.write_text(
    "import ml_collections\ndef get_config():\n"
    f"  return ml_collections.ConfigDict({values!r})\n"
  )
  clips = clip_folder.make(tmp_path / "clips", captions="csv")

  def program(workdir, steps, *flags):
    train.main(
      [
        f"--config={config}",
        f"--workdir={tmp_path / workdir}",
        "--config.data.kind=folder",
        f"--config.data.data_dir={clips}",
        "--config.data.max_broken_share=0.9",
        f"--config.train.steps={steps}",
        *flags,
      ]
    )
    lines = (tmp_path / workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]

  return program


@pytest.mark.full
def test_a_run_over_broken_files_goes_on_exactly(run, tmp_path, capsys):
  whole = run("whole", 4)
  assert len(whole) == 4 and np.isfinite(whole).all()
  assert "skipped " in capsys.readouterr().err
  # As if it had been killed after the second step, and with workers.
  first, parts = tmp_path / "whole", tmp_path / "parts"
  shutil.copytree(first, parts)
  shutil.rmtree(parts / "checkpoints" / "4")
  shutil.rmtree(parts / "weights")
  assert run("parts", 4, "--config.data.num_workers=2") == whole
  times = [
    [json.loads(line)["wall_time"] for line in file.read_text().splitlines()]
    for file in (first / "metrics.jsonl", parts / "metrics.jsonl")
  ]
  same = [a == b for a, b in zip(*times, strict=True)]
  assert same == [True, True, False, False]
  licence = (tmp_path / "whole" / "weights" / "LICENSE").read_text()
  assert "nothing is said there of their licence" in licence
  folder.load(tmp_path / "whole" / "weights")


@pytest.mark.full
def test_a_list_of_sources_can_be_given_on_the_command_line(run, tmp_path):
  images = clip_folder.make_images(tmp_path / "images")
  clips = tmp_path / "clips"
  sources = [
    {"kind": "folder", "data_dir": str(clips), "weight": 0.5},
    {"kind": "folder", "data_dir": str(images), "media": "image"},
  ]
  assert len(run("mixed", 1, f"--config.data.sources={sources!r}")) == 1
  sources[1]["weight"] = 0
  with pytest.raises(UserError, match=r"sources\[\]\.weight=0\.0 must be > 0"):
    run("wrong", 1, f"--config.data.sources={sources!r}")
  sources[1] = {"knd": "folder"}
  with pytest.raises(UserError, match=r"data\.sources\[1\]\.knd.*mean 'kind'"):
    run("wrong", 1, f"--config.data.sources={sources!r}")


class Counting(HashTextEncoder):
  """Notes what is prepared and what is encoded."""

  def __init__(self):
    super().__init__(width=8)
    self.prepared, self.encoded = [], []

  def prepare(self, captions):
    self.prepared += captions

  def encode(self, captions):
    self.encoded += captions
    return super().encode(captions)


def test_captions_are_encoded_where_the_data_have_none(tmp_path):
  clips = clip_folder.make(tmp_path / "clips", broken=False)
  cfg = from_dict(CONFIG)
  data = dataclasses.replace(
    cfg.data, kind="folder", data_dir=str(clips), num_frames=8, fps=8
  )
  train_cfg = dataclasses.replace(cfg.train, batch_size=3)
  encoder = Counting()
  batches = feed.train_batches(
    dataclasses.replace(cfg, data=data, train=train_cfg), encoder
  )
  assert encoder.prepared == sorted(map(clip_folder.caption, clip_folder.GOOD))
  batch = next(batches)
  assert set(batch) == {"pixels", "text", "mask"}
  captions = encoder.encoded[-3:]
  features, _ = HashTextEncoder(width=8).encode(captions)
  np.testing.assert_array_equal(batch["text"], features)
