# SPDX-License-Identifier: Apache-2.0
"""The configuration refuses what is wrong, in one line that helps."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import pytest

from lumiere_jax import config
from lumiere_jax.config import (
  Config,
  DataConfig,
  DiffusionConfig,
  TemporalConfig,
  TrainConfig,
  UNetConfig,
  from_dict,
  override,
  to_dict,
)
from lumiere_jax.errors import UserError, nearest

DATACLASSES = [
  value
  for name in config.__all__
  if dataclasses.is_dataclass(value := getattr(config, name))
]
VIDEO = {"model": {"temporal": {}}, "train": {"stage": "video"}}


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (
      {"modle": {}},
      r"'modle' \(did you mean 'model'\?\); choices: condit",
    ),
    ({"train": {"batchsize": 8}}, r"'train.batchsize' .*'batch_size'\?"),
    (
      {"model": {"temporal": {"kernel": 3}}},
      r"'model.temporal.kernel' .*size'",
    ),
    ({"train": {"zzz": 1}}, r"'train.zzz'; choices: accumulate, "),
  ],
)
def test_unknown_field_names_itself_and_the_nearest(values, message):
  with pytest.raises(UserError, match=message) as info:
    from_dict(values)
  assert "\n" not in str(info.value)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"train": {"steps": "9"}}, "train.steps='9' must be of type int"),
    ({"train": {"steps": 9.0}}, "train.steps=9.0 must be of type int"),
    ({"train": {"steps": True}}, "train.steps=True must be of type int"),
    ({"train": {"ema_decay": None}}, "train.ema_decay=None must be of type"),
    ({"model": {"remat": 1}}, "model.remat=1 must be of type str"),
    ({"model": {"attention": True}}, "model.attention=True must be a list"),
    (
      {"model": {"attention": [False, True, 1]}},
      r"model.attention\[2\]=1 must be of type bool",
    ),
    (
      {"model": {"layers_per_block": [1, "2", 1]}},
      r"layers_per_block\[1\]='2'",
    ),
    ({"model": 3}, "model=3 must be a group of fields"),
    ({"model": {"temporal": 3}}, "model.temporal=3 must be a group of fields"),
  ],
)
def test_ill_typed_value_names_field_value_and_type(values, message):
  with pytest.raises(UserError, match=message):
    from_dict(values)


@pytest.mark.parametrize(
  ("values", "message"),
  [
    (
      {"data": {"num_frames": 82}} | VIDEO,
      "data.num_frames=82 must be a multiple of the temporal stride 4",
    ),
    (
      {"data": {"size_px": 30}},
      "data.size_px=30 must be a multiple of 4",
    ),
    (
      {"data": {"size_px": 36}, "model": {"patch_size": 2}},
      "data.size_px=36 must be a multiple of 8",
    ),
    ({"train": {"stage": "video"}}, "does not fit model.temporal=None"),
    ({"model": {"temporal": {}}}, "train.stage='image' does not fit"),
    ({"model": {"out_channels": 6}}, "model.out_channels=6 must be 3"),
    (
      {"diffusion": {"variance": "learned"}},
      "model.out_channels=3 must be 6",
    ),
    (
      {
        "diffusion": {
          "prediction": "eps",
          "schedule": {"zero_terminal_snr": True},
        }
      },
      "zero_terminal_snr=True cannot be used with diffusion.prediction='eps'",
    ),
    ({"model": {"attention": [True]}}, "needs 3 entries"),
    ({"model": {"layers_per_block": [1, 2]}}, "needs one entry or 3"),
    ({"model": {"norm_num_groups": 48}}, "norm_num_groups=48 must divide"),
    (
      {"model": {"attention_head_dim": 48}},
      "attention_head_dim=48 must divide",
    ),
    ({"model": {"addition_embed_heads": 5}}, "must divide model.encoder_hid"),
    ({"model": {"temporal": {"kernel_size": 2}}}, "kernel_size=2 must be odd"),
    ({"train": {"accumulate": 3}}, "accumulate=3 must divide train.batch_size"),
    ({"train": {"steps": 0}}, "train.steps=0 must be > 0"),
    ({"data": {"segment_frames": -1}}, "data.segment_frames=-1 must be >= 0"),
    (
      {"upscaler_sampler": {"steps": 0}},
      "^upscaler_sampler.steps=0 must be > 0",
    ),
    (
      {"upscaler_sampler": {"name": "euler"}},
      "^unknown upscaler_sampler.name='euler'",
    ),
    (
      {"upscaler_windows": {"frames": 8, "overlap": 9}},
      "^upscaler_windows.overlap=9",
    ),
    ({"train": {"sample_every": 5}}, "sample_every=5 needs train.sample_prom"),
    ({"train": {"sample_every": -1}}, "train.sample_every=-1 must be >= 0"),
    ({"train": {"eval_every": -1}}, "train.eval_every=-1 must be >= 0"),
    ({"train": {"eval_clips": 0}}, "train.eval_clips=0 must be > 0"),
    ({"train": {"ema_decay": 1.0}}, "train.ema_decay=1.0 must be in"),
    (
      {"train": {"optimizer": "adam"}},
      "unknown train.optimizer='adam' .did you mean 'adamw'.*; choices: adaf",
    ),
    (
      {"train": {"schedule": "const"}},
      "unknown train.schedule='const' .did you mean 'constant'",
    ),
    (
      {"train": {"decay_steps": 5}},
      "train.decay_steps=5 needs train.schedule='constant'",
    ),
    (
      {"train": {"decay_steps": -5, "schedule": "constant"}},
      "train.decay_steps=-5 must be >= 0",
    ),
    (
      {"train": {"posthoc_ema": (0.05, 0.3)}},
      r"posthoc_ema=\(0.05, 0.3\) must be different lengths in \(0, 0.28\]",
    ),
    ({"train": {"posthoc_ema": (0.1, 0.1)}}, "must be different lengths"),
    ({"train": {"posthoc_every": 0}}, "train.posthoc_every=0 must be > 0"),
    ({"train": {"b2": 1.0}}, "train.b2=1.0 must be in"),
    (
      {"train": {"optimizer": "schedule_free_adamw", "b1": 0.0}},
      "train.b1=0.0 must be > 0 with train.optimizer='schedule_free_adamw'",
    ),
    ({"train": {"seed": -1}}, "train.seed=-1 not in"),
    ({"model": {"norm_num_groups": 0}}, "model.norm_num_groups=0 must be > 0"),
    ({"model": {"dropout": 1.0}}, "model.dropout=1.0 not in"),
    (
      {"model": {"attention_head_dim": 48}},
      "divide the width 128 .*level with",
    ),
    (
      {
        "model": {
          "attention": [False, False, False],
          "attention_head_dim": 80,
        }
      },
      "divide the width 192 .*middle block",
    ),
    (
      {
        "model": {"temporal": {"attention_head_dim": 80}},
        "train": {"stage": "video"},
      },
      "temporal.attention_head_dim=80 must divide the width 192",
    ),
    ({"model": {"cross_attention_dim": 48}}, "cross_attention_dim=48 must be"),
    ({"diffusion": {"weighting": "vs"}}, "weighting='vs' .did you mean 'v'"),
    ({"diffusion": {"weighting_cap": 0.0}}, "weighting_cap=0.0 must be > 0"),
    ({"diffusion": {"timestep_std": 0.0}}, "timestep_std=0.0 must be > 0"),
    (
      {"diffusion": {"timestep_distribution": "normal"}},
      "timestep_distribution='normal' .did you mean 'logit_normal'",
    ),
    ({"diffusion": {"timestep_shift": 0.0}}, "timestep_shift=0.0 must be > 0"),
    ({"sampler": {"timestep_shift": -1.0}}, "timestep_shift=-1.0 must be > 0"),
    ({"sampler": {"threshold_max": 0.9}}, "threshold_max=0.9 must be >= 1"),
    ({"sampler": {"guidance_interval": (0.5,)}}, "must have 2 entries"),
    ({"sampler": {"guidance_interval": (0.5, 0.2)}}, "the lower first"),
    ({"sampler": {"guidance_every": 0}}, "guidance_every=0 must be >= 1"),
    ({"sampler": {"deep_every": -1}}, "sampler.deep_every=-1 must be >= 1"),
    ({"sampler": {"deep_level": 0}}, "sampler.deep_level=0 must be >= 1"),
    ({"sampler": {"steps": 0}}, "sampler.steps=0 must be > 0"),
    ({"sampler": {"name": "dpmpp2m"}}, "did you mean 'dpmpp_2m'"),
    ({"model": {"in_channels": 6}}, "in_channels=6 must be 3 with condition.k"),
    (
      {"model": {"in_channels": 6}, "condition": {"kind": "low_res"}},
      "class_embed_type='none' must be 'timestep'",
    ),
    (
      {
        "model": {"in_channels": 6, "class_embed_type": "timestep"},
        "condition": {"kind": "low_res", "scale": 3},
      },
      "size_px=32 and data.crop_px=0 must be multiples of condition.scale=3",
    ),
    (
      {
        "model": {"in_channels": 6, "class_embed_type": "timestep"},
        "condition": {"kind": "low_res", "max_level": 300},
        "sampler": {"low_res_level": 301},
      },
      "^sampler.low_res_level=301 must be in 0..300",
    ),
    ({"windows": {"tile_px": 33}}, "windows.tile_px=33 must be a multiple of"),
    ({"condition": {"scale": 1}}, "condition.scale=1 must be > 1"),
    ({"condition": {"max_level": 1000}}, "max_level=1000 must be in 0..999"),
    ({"text": {"max_tokens": 2}}, "text.max_tokens=2 must be in 3..512"),
  ],
)
def test_fields_that_do_not_fit_are_refused(values, message):
  with pytest.raises(UserError, match=message) as info:
    from_dict(values)
  assert "\n" not in str(info.value)


def test_temporal_stride_binds_only_where_there_is_one():
  clip = {"data": {"num_frames": 82}}
  still = {"model": {"temporal": {"resample": False}}}
  video = from_dict(clip | still | {"train": {"stage": "video"}})
  assert video.model.temporal_stride == 1
  assert from_dict(clip).model.temporal_stride == 1
  assert from_dict(VIDEO).model.temporal_stride == 4


def test_strides_count_patches_and_levels():
  model = UNetConfig(patch_size=2, temporal=TemporalConfig())
  assert (model.spatial_stride, model.temporal_stride) == (8, 4)


def test_numbers_per_level_are_broadcast():
  assert UNetConfig(layers_per_block=2).layers == (2, 2, 2)
  assert UNetConfig(layers_per_block=(1, 2, 3)).layers == (1, 2, 3)
  assert UNetConfig(only_cross_attention=True).only_cross == (True,) * 3


@pytest.mark.parametrize(
  "built",
  [
    Config(),
    Config(
      name="clip",
      model=UNetConfig(
        block_out_channels=(32, 64),
        attention=(False, True),
        layers_per_block=(1, 3),
        out_channels=6,
        temporal=TemporalConfig(kernel_size=5),
      ),
      diffusion=DiffusionConfig(variance="learned"),
      data=DataConfig(num_frames=6),
      train=TrainConfig(stage="video", sample_prompts=("a", "b")),
    ),
  ],
)
def test_round_trip(built):
  assert from_dict(to_dict(built)) == built
  assert hash(from_dict(to_dict(built))) == hash(built)


def test_lists_become_tuples_and_whole_numbers_floats():
  built = from_dict({"model": {"block_out_channels": [32, 64, 64]}})
  assert built.model.block_out_channels == (32, 64, 64)
  rate = from_dict({"train": {"learning_rate": 1}}).train.learning_rate
  assert isinstance(rate, float)


@pytest.mark.parametrize(
  ("path", "text", "value"),
  [
    ("train.batch_size", "8", 8),
    ("train.learning_rate", "1e-4", 1e-4),
    ("model.remat", "none", "none"),
    ("model.only_cross_attention", "true", True),
    ("model.only_cross_attention", "False", False),
    ("model.temporal", "none", None),
    ("model.block_out_channels", "(8, 16)", (8, 16)),
    ("sampler.name", "ddim", "ddim"),
    ("diffusion.schedule.name", "linear", "linear"),
    ("train.init_from", "runs/t2i/weights", "runs/t2i/weights"),
  ],
)
def test_override_reads_values_from_text(path, text, value):
  before = to_dict(Config())
  after = override(before, path, text)
  for name in path.split("."):
    after = after[name]
  assert after == value
  assert type(after) is type(value)
  assert before == to_dict(Config()), "the argument must not change"


@pytest.mark.parametrize(
  ("path", "message"),
  [
    ("trian.steps", r"'trian' \(did you mean 'train'\?\)"),
    ("train.stpes", r"stpes' \(did you mean 'steps'\?\)"),
    ("train.steps.more", r"steps' has no field 'more'"),
  ],
)
def test_override_names_an_unknown_field(path, message):
  with pytest.raises(UserError, match=message):
    override(to_dict(Config()), path, "1")


def test_nearest_lists_choices_and_guesses_only_what_is_close():
  assert nearest("dim", ["ddim", "ddpm"]).startswith(" (did you mean 'ddim'?)")
  assert nearest("x", ["ddim", "ddpm"]) == "; choices: ddim, ddpm"


@pytest.mark.parametrize("cls", DATACLASSES, ids=lambda c: c.__name__)
def test_every_field_is_documented_in_order(cls):
  section = inspect.getdoc(cls).partition("Attributes:\n")[2]
  documented = re.findall(r"^  (\w+): \S", section, re.MULTILINE)
  assert documented == [f.name for f in dataclasses.fields(cls)]


@pytest.mark.parametrize("cls", DATACLASSES, ids=lambda c: c.__name__)
def test_values_are_frozen_and_given_by_name(cls):
  with pytest.raises(dataclasses.FrozenInstanceError):
    setattr(cls(), dataclasses.fields(cls)[0].name, None)
  with pytest.raises(TypeError):
    cls(3)


def test_every_field_is_read_by_somebody():
  package = Path(config.__file__).parent.parent
  read = {
    node.attr
    for path in package.rglob("*.py")
    if path.parent.name != "config"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Attribute)
  }
  for cls in DATACLASSES:
    idle = {f.name for f in dataclasses.fields(cls)} - read
    # a property of the class may be the only reader of a field
    idle -= set(re.findall(r"self\.(\w+)", _properties(cls)))
    assert not idle, f"{cls.__name__}: {sorted(idle)} set by many, read by none"


def _properties(cls) -> str:
  return "".join(
    inspect.getsource(value.fget)
    for value in vars(cls).values()
    if isinstance(value, property)
  )


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"segment_frames": 81}, "data.segment_frames=81 must be in 0..80"),
    ({"crop_px": 33}, "data.crop_px=33 must be in 0..32"),
  ],
)
def test_training_sees_no_more_than_a_clip_has(fields, message):
  data = DataConfig(**fields)  # Sampling makes clips of any size.
  with pytest.raises(UserError, match=message):
    _ = data.train_size
