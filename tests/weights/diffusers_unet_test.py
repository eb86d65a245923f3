# SPDX-License-Identifier: Apache-2.0
"""Configuration and keys of diffusers' U-Net, both ways."""

import dataclasses
import math

import pytest

from lumiere_jax import trees
from lumiere_jax.config import TemporalConfig, UNetConfig
from lumiere_jax.errors import UserError
from lumiere_jax.weights.diffusers_unet import (
  diffusers_config,
  rules,
  unet_config,
)
from lumiere_jax.weights.rules import Rule, plan, plan_export
from tests.fixtures import make_unet_fixtures as maker
from tests.models import if_nets

by_name = pytest.mark.parametrize("case", maker.CASES, ids=lambda c: c.name)

REFUSED = {
  "_class_name": "UNet3DConditionModel",
  "down_block_types": ("CrossAttnDownBlock2D",) * 3,
  "mid_block_type": "UNetMidBlock2DCrossAttn",
  "up_block_types": ("SimpleCrossAttnUpBlock2D",) * 3,
  "act_fn": "mish",
  "addition_embed_type": "text_time",
  "addition_embed_type_num_heads": 5,
  "attention_head_dim": (16, 32, 32),
  "class_embed_type": "projection",
  "class_embeddings_concat": True,
  "center_input_sample": True,
  "conv_in_kernel": 1,
  "cross_attention_norm": "layer_norm",
  "encoder_hid_dim": None,
  "encoder_hid_dim_type": "image_proj",
  "flip_sin_to_cos": False,
  "freq_shift": 1,
  "num_class_embeds": 10,
  "only_cross_attention": (True,),
  "resnet_time_scale_shift": "default",
  "time_embedding_type": "fourier",
  "timestep_post_act": "silu",
  "a_new_field": 3,
}


@by_name
def test_configuration_survives_the_round_trip(case):
  cfg = unet_config(case.fields)
  spelled_out = dataclasses.replace(
    cfg, layers_per_block=cfg.layers, only_cross_attention=cfg.only_cross
  )
  assert unet_config(diffusers_config(cfg, 64)) == spelled_out


@pytest.mark.filterwarnings("ignore")  # diffusers' own
@by_name
def test_fields_and_keys_are_those_of_diffusers_live(case):
  pytest.importorskip("torch")
  diffusers = pytest.importorskip("diffusers")
  model = diffusers.UNet2DConditionModel(**case.fields)
  cfg = unet_config(dict(model.config))  # With all of diffusers' defaults.
  assert cfg == unet_config(case.fields)
  leaves = trees.flatten(if_nets.abstract_params(cfg))
  ours = plan_export(leaves, rules(cfg.num_levels))
  theirs = {k: tuple(v.shape) for k, v in model.state_dict().items()}
  assert {k: v.shape for k, v in ours.items()} == theirs
  written = diffusers_config(cfg, 64)
  assert set(written) - {"_class_name"} <= set(model.config)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_named(name):
  with pytest.raises(UserError) as error:
    unet_config({**maker.BASE, name: REFUSED[name]})
  assert name.removesuffix("_type_num_heads") in str(error.value)


def test_fields_of_no_effect_may_have_any_value():
  fields = {**maker.BASE, "downsample_padding": 0, "sample_size": 32}
  assert unet_config(fields) == unet_config(maker.BASE)


def test_the_default_of_a_field_is_diffusers_own():
  fields = dict(maker.BASE)
  del fields["addition_embed_type_num_heads"]
  with pytest.raises(UserError, match="addition_embed_heads=64"):
    unet_config(fields)  # 64 does not divide a width of 48.


def test_patches_cannot_be_exported():
  with pytest.raises(UserError, match="patch_size=2 cannot be exported"):
    diffusers_config(UNetConfig(patch_size=2), 64)


@by_name
def test_every_key_and_every_path_is_matched_once(case):
  cfg = unet_config(case.fields)
  table, target = rules(cfg.num_levels), if_nets.abstract_params(cfg)
  leaves = trees.flatten(target)
  keys = plan_export(leaves, table)
  assert len(keys) == len(leaves)
  back = plan(keys, table, target)
  assert back.keys() == leaves.keys()
  assert sum(math.prod(k.shape) for k in keys.values()) == trees.count(target)


def test_temporal_parameters_have_no_place_in_diffusers():
  cfg = dataclasses.replace(
    unet_config(maker.BASE), temporal=TemporalConfig(attention_head_dim=32)
  )
  leaves = trees.flatten(if_nets.abstract_params(cfg))
  with pytest.raises(UserError, match="matched by no rule"):
    plan_export(leaves, rules(cfg.num_levels))


def test_templates_name_the_levels_in_both_orders():
  table = [rule for rule in rules(3) if isinstance(rule, Rule)]
  paths = [rule.path("up_blocks.0.resnets.1.conv2.weight") for rule in table]
  assert [path for path in paths if path] == ["up_2/resnet_1/conv2/kernel"]
