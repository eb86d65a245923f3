# SPDX-License-Identifier: Apache-2.0
"""The command line of plans."""

import importlib.util
import json

import pytest

from lumiere_jax import plan, trees
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder

CONFIG = """
import ml_collections


def get_config():
  return ml_collections.ConfigDict(
    dict(
      name="tiny",
      model=dict(
        block_out_channels=(8, 16),
        attention=(False, True),
        attention_head_dim=8,
        cross_attention_dim=32,
        encoder_hid_dim=8,
        addition_embed_heads=2,
        norm_num_groups=4,
        temporal=dict(attention_head_dim=8),
      ),
      data=dict(num_frames=4, size_px=8),
      train=dict(stage="video", batch_size=2),
      sampler=dict(steps=3, guidance=2.0),
    )
  )
"""


@pytest.fixture
def config(tmp_path):
  path = tmp_path / "tiny.py"
  path.write_text(CONFIG)
  return f"--config={path}"


def test_a_plan_is_printed_and_written(config, tmp_path, capsys):
  out = tmp_path / "plan.json"
  plan.main([config, "--what=sample", "--clips=2", f"--out={out}"])
  text = capsys.readouterr().out
  assert "tiny: a denoising step of 2 x 4 frames of 8 px on 1 device" in text
  assert "roofline: n/a" in text
  found = json.loads(out.read_text())
  assert found["what"] == "sample" and found["clips"] == 2
  assert found["tried"] == [] and found["fits"] is None
  assert found["flops"]["compiled_over_analytic"] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (["--what=eval"], r"--what='eval'; choices: sample, train"),
    (["--tries=-1"], "--tries=-1 must be >= 0"),
    (["--clips=2"], "--clips is of sampling; set --config.train.batch_size"),
    (["--topology=local:4"], "no topology 'local:4'; those that are here are"),
    (["--topology=v9:2x2"], r"no topology 'v9:2x2': unknown accelerator 'v9'"),
    (["--config.mesh.fsdp=3"], "mesh.fsdp=3 .* do not share out 1 devices"),
    (["--config.data.size_px=9"], "9.*must be a multiple of 2"),
    (
      ["--what=sample", "--config.data.num_frames=3"],
      "3 must be a multi",
    ),
    (["--config.train.trainable=nothing"], "nothing.* is in no parameter"),
  ],
)
def test_mistakes_are_one_line(config, args, message):
  with pytest.raises(UserError, match=message) as error:
    plan.main([config, *args])
  assert "\n" not in str(error.value)


def test_what_cannot_be_written_is_told_before_the_work(config, tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="/file is a file, no folder"):
    plan.main([config, f"--out={tmp_path}/file/plan.json"])


def test_of_weights_their_own_network_is_planned(tmp_path, capsys):
  config = "--config=configs/demo.py"
  plan.main([config, "--what=sample", f"--out={tmp_path}/new/plan.json"])
  found = json.loads((tmp_path / "new" / "plan.json").read_text())
  params = folder.load(folder.resolve("demo"))[0]
  assert found["memory"]["frozen"] == 4 * trees.count(params)
  assert "1 x 80 frames of 32 px" in capsys.readouterr().out
  with pytest.raises(UserError, match="with the weights 'demo', not how to tr"):
    plan.main([config])


def test_nothing_is_overwritten(config, tmp_path):
  out = tmp_path / "plan.json"
  out.write_text("mine")
  with pytest.raises(UserError, match="exists already"):
    plan.main([config, f"--out={out}"])
  assert out.read_text() == "mine"


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is not None,
  reason="an accelerator's compiler (libtpu) is installed",
)
def test_what_is_missing_is_named(config):
  with pytest.raises(UserError, match=r"pip install 'lumiere_jax\[plan\]'"):
    plan.main([config, "--topology=v5e:2x2"])
