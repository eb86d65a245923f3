# SPDX-License-Identifier: Apache-2.0
"""Foreign weights become ours and go back, bit for bit."""

import dataclasses
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from lumiere_jax import (
  cli,
  export_weights,
  import_weights,
  initial,
  parity,
  trees,
)
from lumiere_jax.config import TrainConfig, from_dict
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder
from lumiere_jax.weights.diffusers_unet import unet_config
from tests.fixtures import make_unet_fixtures as maker
from tests.models import if_nets

FILE = "diffusion_pytorch_model.safetensors"
TRAIN = TrainConfig(stage="video")
KEY = "down_blocks.1.resnets.0.conv1.weight"


@pytest.fixture(scope="module")
def state():
  """A U-Net's tensors as diffusers names them."""
  return if_nets.diffusers_state(unet_config(maker.BASE))


@pytest.fixture
def source(tmp_path, state):
  """A model folder that diffusers could have written."""
  return write(tmp_path / "unet", state)


def write(model, state, fields=maker.BASE):
  model.mkdir(parents=True)
  fields = {"_class_name": "UNet2DConditionModel", "sample_size": 64, **fields}
  (model / "config.json").write_text(json.dumps(fields))
  save_file(state, model / FILE)
  return model


def shard(model, count=3):
  """Splits the file of a model folder into shards."""
  state = load_file(model / FILE)
  (model / FILE).unlink()
  files = {}
  for i, key in enumerate(sorted(state)):
    files.setdefault(f"shard-{i % count}.safetensors", {})[key] = state[key]
  for name, tensors in files.items():
    save_file(tensors, model / name)
  weight_map = {k: name for name, part in files.items() for k in part}
  index = {"weight_map": weight_map}
  (model / f"{FILE}.index.json").write_text(json.dumps(index))


def run(source, out, *options):
  flags = ["--from=diffusers-unet", f"--src={source}", f"--out={out}"]
  import_weights.main([*flags, "--skip_parity", *options])
  return out


def export(source, out, kind="diffusers-unet"):
  export_weights.main([f"--to={kind}", f"--src={source}", f"--out={out}"])
  return out


def same(first, second):
  assert first.keys() == second.keys()
  for key, value in first.items():
    assert value.dtype == second[key].dtype
    assert value.tobytes() == second[key].tobytes()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
def test_import_and_export_keep_every_bit(tmp_path, state, dtype):
  state = {key: value.astype(dtype) for key, value in state.items()}
  model = write(tmp_path / "unet", state)
  ours = run(model, tmp_path / "ours")
  theirs = export(ours, tmp_path / "theirs")
  same(load_file(theirs / FILE), state)
  assert from_dict(folder.load_config(ours)).model == unet_config(maker.BASE)


def test_all_parameters_can_be_exported_under_their_own_names(tmp_path, source):
  ours = run(source, tmp_path / "ours")
  out = export(ours, tmp_path / "out", kind="safetensors")
  params, config, _ = folder.load(ours)
  flat = {p.replace("/", "."): v for p, v in trees.flatten(params).items()}
  same(load_file(out / "model.safetensors"), flat)
  assert json.loads((out / "config.json").read_text()) == config


def test_shipped_weights_export_and_their_patches_are_told(tmp_path):
  out = export("demo", tmp_path / "out", kind="safetensors")
  with safe_open(out / "model.safetensors", "np") as file:
    assert any("temporal" in name for name in file.keys())  # noqa: SIM118
  with pytest.raises(UserError, match="patch_size=2 cannot be exported"):
    export("demo", tmp_path / "no")
  assert not (tmp_path / "no").exists()


def test_shards_are_one_model(tmp_path, source, state):
  shard(source)
  ours = run(source, tmp_path / "ours")
  same(load_file(export(ours, tmp_path / "theirs") / FILE), state)


def test_pipeline_folder_tells_the_sampler_and_the_licence(tmp_path, source):
  pipeline = tmp_path / "IF-I-X"
  pipeline.mkdir()
  shutil.move(source, pipeline / "unet")
  (pipeline / "LICENSE.md").write_text("for research only")
  (pipeline / "scheduler").mkdir()
  fields = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "thresholding": True,
    "sample_max_value": 1.25,
  }
  scheduler = pipeline / "scheduler" / "scheduler_config.json"
  scheduler.write_text(json.dumps(fields))
  ours = run(pipeline, tmp_path / "ours")
  config = from_dict(folder.load_config(ours))
  assert config.name == "IF-I-X"
  assert config.diffusion.schedule.name == "cosine"
  assert config.diffusion.variance == "learned"
  assert config.sampler.threshold == "dynamic"
  assert config.sampler.threshold_max == 1.25
  assert (ours / "LICENSE").read_text() == "for research only"
  scheduler.write_text(json.dumps({**fields, "beta_schedule": "sigmoid"}))
  with pytest.raises(UserError, match="beta_schedule='sigmoid' is not supp"):
    run(pipeline, tmp_path / "again")


def test_the_unets_own_folder_is_as_good_as_its_pipeline(tmp_path, source):
  pipeline = tmp_path / "IF-I-X"
  pipeline.mkdir()
  shutil.move(source, pipeline / "unet")
  (pipeline / "scheduler").mkdir()
  (pipeline / "scheduler" / "scheduler_config.json").write_text(
    json.dumps({"variance_type": "learned_range", "beta_schedule": "linear"})
  )
  config = import_weights.unet_config(pipeline)
  assert config.diffusion.schedule.name == "linear"
  assert config.name == "IF-I-X"
  assert import_weights.unet_config(pipeline / "unet") == config


def test_captions_are_read_as_if_reads_them(source):
  assert import_weights.unet_config(source).text.lower_case


def test_three_channels_without_a_scheduler_have_no_learned_variance(tmp_path):
  fields = {**maker.BASE, "out_channels": 3}
  write(tmp_path / "unet", {}, fields)
  config = import_weights.unet_config(tmp_path / "unet")
  assert config.diffusion.variance == "fixed_small"


def test_training_takes_the_imported_network(tmp_path, source):
  ours = run(source, tmp_path / "ours")
  cfg = cli.resolve(
    cli.read_config("configs/if_m.py"),
    {
      "train.init_from": repr(str(ours)),
      "model.temporal.attention_head_dim": "32",
    },
  )
  taken = initial.with_imported(cfg)
  imported = from_dict(folder.load_config(ours)).model
  assert taken.model.block_out_channels == imported.block_out_channels
  assert taken.model.temporal == cfg.model.temporal
  assert taken.model.remat == cfg.model.remat
  initial.check_initial(taken)
  with pytest.raises(UserError, match="trained with other settings"):
    initial.check_initial(cfg)
  assert initial.with_imported(dataclasses.replace(cfg, train=TRAIN)).model == (
    cfg.model
  )


def test_a_failed_import_leaves_no_folder_above_it(tmp_path, source):
  without_key(source)
  with pytest.raises(UserError):
    run(source, tmp_path / "n1" / "n2" / "ours")
  assert not (tmp_path / "n1").exists()


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ({"weight_map": {"a": 3}}, "maps no weights to files"),
    ({"weight_map": []}, "maps no weights to files"),
  ],
)
def test_an_index_of_another_form_is_refused(
  tmp_path, source, content, message
):
  (source / FILE).unlink()
  (source / f"{FILE}.index.json").write_text(json.dumps(content))
  with pytest.raises(UserError, match=message):
    run(source, tmp_path / "ours")


def test_a_folder_that_was_not_imported_is_named(source):
  with pytest.raises(UserError, match="import_weights makes a weights folder"):
    folder.load_config(source)


def test_a_licence_in_another_encoding_is_kept(tmp_path, source):
  (source / "LICENSE").write_bytes("für".encode("latin-1"))
  assert "f" in (run(source, tmp_path / "ours") / "LICENSE").read_text()


def test_an_upscaler_is_told_what_its_noise_levels_mean(tmp_path):
  fields = {**maker.BASE, **maker.UPSCALER}
  pipeline = tmp_path / "IF-II-X"
  state = if_nets.diffusers_state(unet_config(fields))
  write(pipeline / "unet", state, fields)
  condition = import_weights.unet_config(pipeline).condition
  assert condition.kind == "low_res" and condition.align_corners
  assert condition.schedule.name == "cosine"
  (pipeline / "image_noising_scheduler").mkdir()
  (pipeline / "image_noising_scheduler" / "scheduler_config.json").write_text(
    json.dumps({"beta_schedule": "linear", "num_train_timesteps": 500})
  )
  config = from_dict(folder.load_config(run(pipeline, tmp_path / "ours")))
  assert config.condition.schedule.name == "linear"
  assert config.condition.max_level == 499
  assert config.diffusion.schedule.name == "cosine"


def without_key(model):
  state = load_file(model / FILE)
  del state[KEY]
  save_file(state, model / FILE)


def with_another_key(model):
  save_file(load_file(model / FILE) | {"x.bias": np.zeros(3)}, model / FILE)


def with_another_shape(model):
  state = load_file(model / FILE)
  save_file(state | {KEY: state[KEY][..., :1].copy()}, model / FILE)


def with_a_large_value(model):
  state = load_file(model / FILE)
  state["conv_in.bias"][0] = 1e6
  save_file(state, model / FILE)


def of_another_family(model):
  fields = {"_class_name": "AutoencoderKL"}
  (model / "config.json").write_text(json.dumps(fields))


def without_a_shard(model):
  shard(model)
  (model / "shard-1.safetensors").unlink()


def truncated(model):
  content = (model / FILE).read_bytes()
  (model / FILE).write_bytes(content[: len(content) // 2])


def with_a_config_that_is_none(model):
  (model / "config.json").write_text("[]")


@pytest.mark.parametrize(
  ("damage", "options", "message"),
  [
    (without_key, (), r"not filled \(1\):\n  down_1/resnet_0/conv1/kernel"),
    (with_another_key, (), r"matched by no rule \(1\):\n  x.bias"),
    (with_another_shape, (), r"wrong shape \(1\):\n  down_1/resnet_0/conv1"),
    (with_a_large_value, ("--dtype=float16",), "conv_in/bias has values too"),
    (of_another_family, (), "'AutoencoderKL' is not supported: 'UNet2D"),
    (without_a_shard, (), "1 of 3 shards .* missing: shard-1.safetensors"),
    (truncated, (), f"cannot read weights .*{FILE}"),
    (with_a_config_that_is_none, (), "config.json: it is no JSON object"),
    (lambda model: (model / FILE).unlink(), (), "no weights in .*expected"),
    (lambda model: shutil.rmtree(model), (), "is no folder"),
    (lambda model: None, ("--dtype=int8",), "unknown weights dtype 'int8'"),
    (lambda model: None, ("--from=onnx",), "unknown --from='onnx'"),
  ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(
  tmp_path, source, damage, options, message
):
  damage(source)
  before = {path.name for path in tmp_path.iterdir()}
  with pytest.raises(UserError, match=message):
    run(source, tmp_path / "ours", *options)
  assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings("ignore")  # diffusers' own
def test_parity_is_measured_where_diffusers_is_installed(tmp_path, source):
  pytest.importorskip("torch")
  pytest.importorskip("diffusers")
  run(source, tmp_path / "ours")
  line = import_weights.parity_line("diffusers-unet", source, tmp_path / "ours")
  assert float(line.split()[3]) < 1e-4


def test_parity_without_diffusers_says_so(tmp_path, source, monkeypatch):
  monkeypatch.setattr(parity.importlib.util, "find_spec", lambda name: None)
  line = import_weights.parity_line("diffusers-unet", source, tmp_path)
  assert line == "parity: not measured, torch and diffusers not installed"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pickles_are_read_too(tmp_path, source, state, dtype):
  torch = pytest.importorskip("torch")
  tensors = {
    key: torch.from_numpy(value).to(getattr(torch, dtype))
    for key, value in state.items()
  }
  torch.save(tensors, source / "diffusion_pytorch_model.bin")
  (source / FILE).unlink()
  ours = run(source, tmp_path / "ours")
  expected = {k: v.astype(dtype) for k, v in state.items()}
  same(load_file(export(ours, tmp_path / "theirs") / FILE), expected)
  file = source / "diffusion_pytorch_model.bin"
  file.write_bytes(file.read_bytes()[:1000])
  with pytest.raises(UserError, match=r"cannot read weights .*model\.bin"):
    run(source, tmp_path / "again")
