# SPDX-License-Identifier: Apache-2.0
"""Rules and configuration from diffusers' UNet2DConditionModel in IF's form.

That is the U-Net of DeepFloyd IF: residual blocks that resample, attention
with added keys and values, pooled text. Other U-Nets of diffusers have other
blocks and are refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from lumiere_jax.config import UNetConfig, from_dict
from lumiere_jax.errors import UserError
from lumiere_jax.weights.rules import (
  CONV2D,
  LINEAR,
  ROW,
  Rule,
  Transform,
  norm,
)

CLASS_NAME = "UNet2DConditionModel"

_DOWN = {False: "ResnetDownsampleBlock2D", True: "SimpleCrossAttnDownBlock2D"}
_UP = {False: "ResnetUpsampleBlock2D", True: "SimpleCrossAttnUpBlock2D"}
_MID = "UNetMidBlock2DSimpleCrossAttn"

# Ours by theirs, where one value is the other.
_SAME = {
  "in_channels": "in_channels",
  "out_channels": "out_channels",
  "cross_attention_dim": "cross_attention_dim",
  "encoder_hid_dim": "encoder_hid_dim",
  "attention_head_dim": "attention_head_dim",
  "addition_embed_type_num_heads": "addition_embed_heads",
  "norm_num_groups": "norm_num_groups",
  "norm_eps": "norm_eps",
  "act_fn": "act_fn",
  "resnet_skip_time_act": "resnet_skip_time_act",
  "resnet_out_scale_factor": "resnet_out_scale_factor",
  "mid_block_scale_factor": "mid_block_scale_factor",
  "dropout": "dropout",
}
# Theirs that are None where ours have a word or a number for it.
_NONE = {
  "time_embedding_dim": ("time_embedding_dim", 0),
  "time_embedding_act_fn": ("time_embedding_act_fn", "none"),
  "class_embed_type": ("class_embed_type", "none"),
  "cross_attention_norm": ("cross_attention_norm", "none"),
}
# Diffusers' defaults of the fields we read: its files may leave them out.
_DEFAULTS = {
  "in_channels": 4,
  "out_channels": 4,
  "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
  "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
  "mid_block_type": "UNetMidBlock2DCrossAttn",
  "block_out_channels": (320, 640, 1280, 1280),
  "layers_per_block": 2,
  "only_cross_attention": False,
  "mid_block_only_cross_attention": None,
  "cross_attention_dim": 1280,
  "encoder_hid_dim": None,
  "attention_head_dim": 8,
  "addition_embed_type_num_heads": 64,
  "norm_num_groups": 32,
  "norm_eps": 1e-5,
  "act_fn": "silu",
  "resnet_skip_time_act": False,
  "resnet_out_scale_factor": 1.0,
  "mid_block_scale_factor": 1.0,
  "dropout": 0.0,
  "time_embedding_dim": None,
  "time_embedding_act_fn": None,
  "class_embed_type": None,
  "cross_attention_norm": None,
}
# What IF's form fixes, and the value that diffusers takes where none is given.
_FIXED = {
  "addition_embed_type": ("text", None),
  "resnet_time_scale_shift": ("scale_shift", "default"),
  "encoder_hid_dim_type": ("text_proj", "text_proj"),
  "center_input_sample": (False, False),
  "flip_sin_to_cos": (True, True),
  "freq_shift": (0, 0),
  "time_embedding_type": ("positional", "positional"),
  "timestep_post_act": (None, None),
  "time_cond_proj_dim": (None, None),
  "conv_in_kernel": (3, 3),
  "conv_out_kernel": (3, 3),
  "num_class_embeds": (None, None),
  "num_attention_heads": (None, None),
  "class_embeddings_concat": (False, False),
  "dual_cross_attention": (False, False),
  "attention_type": ("default", "default"),
}
# Of other blocks, or of no effect on what the network computes.
_WITHOUT_EFFECT = (
  "sample_size",
  "downsample_padding",
  "transformer_layers_per_block",
  "reverse_transformer_layers_per_block",
  "use_linear_projection",
  "upcast_attention",
  "addition_time_embed_dim",
  "projection_class_embeddings_input_dim",
)


def unet_config(fields: Mapping[str, Any]) -> UNetConfig:
  """Returns the network that a diffusers config.json describes.

  Args:
    fields: the file's content; what it leaves out has diffusers' defaults.

  Raises:
    UserError: it is of another class or has a value that is not supported;
      names the field.
  """
  _check_form(fields)
  theirs = _DEFAULTS | {k: v for k, v in fields.items() if k in _DEFAULTS}
  ours = {our: theirs[their] for their, our in _SAME.items()}
  for their, (our, none) in _NONE.items():
    ours[our] = none if theirs[their] is None else theirs[their]
  ours["attention_head_dim"] = _one_for_all(theirs, "attention_head_dim")
  only_cross = theirs["only_cross_attention"]
  middle = theirs["mid_block_only_cross_attention"]
  if middle is None:  # A list says nothing of the middle block.
    middle = only_cross if isinstance(only_cross, bool) else False
  ours |= {
    "block_out_channels": theirs["block_out_channels"],
    "layers_per_block": theirs["layers_per_block"],
    "attention": _attention(theirs),
    "only_cross_attention": only_cross,
    "mid_block_only_cross_attention": middle,
    "mask_text": "none",
  }
  return from_dict(ours, UNetConfig)


def diffusers_config(cfg: UNetConfig, size_px: int) -> dict[str, Any]:
  """Returns the config.json whose `unet_config` is the spatial part of `cfg`.

  Raises:
    UserError: diffusers has no such network.
  """
  if cfg.patch_size != 1:
    raise UserError(
      f"model.patch_size={cfg.patch_size} cannot be exported: diffusers' "
      "U-Net has no patches"
    )
  fields = {their: getattr(cfg, our) for their, our in _SAME.items()}
  for their, (our, none) in _NONE.items():
    value = getattr(cfg, our)
    fields[their] = None if value == none else value
  fields |= {name: value for name, (value, _) in _FIXED.items()}
  return fields | {
    "_class_name": CLASS_NAME,
    "sample_size": size_px,
    "block_out_channels": list(cfg.block_out_channels),
    "layers_per_block": list(cfg.layers),
    "only_cross_attention": list(cfg.only_cross),
    "mid_block_only_cross_attention": cfg.mid_block_only_cross_attention,
    "down_block_types": [_DOWN[flag] for flag in cfg.attention],
    "mid_block_type": _MID,
    "up_block_types": [_UP[flag] for flag in reversed(cfg.attention)],
  }


def rules(num_levels: int) -> tuple[Rule, ...]:
  """Returns the table of a network of so many levels."""
  table = [
    *_layer("conv_in", "conv_in", CONV2D),
    *_layer("time_embedding.linear_{i}", "time/linear_{i}"),
    *_layer("class_embedding.linear_{i}", "noise_level/linear_{i}"),
    *_layer("encoder_hid_proj", "text_proj"),
    *norm("add_embedding.norm{i}", "text_pool/norm{i}"),
    Rule(
      "add_embedding.pool.positional_embedding", "text_pool/pool/position", ROW
    ),
    *_layer("add_embedding.pool.{p:k|q|v}_proj", "text_pool/pool/{p}"),
    *_layer("add_embedding.proj", "text_pool/proj"),
    *norm("conv_norm_out", "norm_out"),
    *_layer("conv_out", "conv_out", CONV2D),
    *_block("mid_block", "mid"),
  ]
  for level in range(num_levels):
    down, up = f"down_blocks.{level}", f"up_blocks.{num_levels - 1 - level}"
    table += _block(down, f"down_{level}")
    table += _resnet(f"{down}.downsamplers.0", f"down_{level}/downsample")
    table += _block(up, f"up_{level}")
    table += _resnet(f"{up}.upsamplers.0", f"up_{level}/upsample")
  return tuple(table)


def _check_form(fields: Mapping[str, Any]) -> None:
  """Raises UserError unless the fields describe a network in IF's form."""
  found = fields.get("_class_name", CLASS_NAME)
  if found != CLASS_NAME:
    raise UserError(
      f"_class_name={found!r} is not supported: {CLASS_NAME!r} was expected"
    )
  for name, (value, default) in _FIXED.items():
    found = default if fields.get(name) is None else fields[name]
    if found != value:
      raise UserError(
        f"{name}={found!r} is not supported: IF's form has {value!r}"
      )
  if fields.get("encoder_hid_dim") is None:
    raise UserError(
      "encoder_hid_dim=None is not supported: IF's form projects the text"
    )
  known = {*_DEFAULTS, *_FIXED, *_WITHOUT_EFFECT}
  for name, value in fields.items():
    if name not in known and not name.startswith("_") and value is not None:
      raise UserError(f"{name}={value!r} is not supported: unknown field")


def _one_for_all(fields: Mapping[str, Any], name: str) -> int:
  """The value of a field that diffusers may give for each level."""
  values = fields[name]
  values = set(values) if isinstance(values, (list, tuple)) else {values}
  if len(values) > 1:
    raise UserError(
      f"{name}={fields[name]!r} is not supported: all levels must have the same"
    )
  return values.pop()


def _attention(fields: Mapping[str, Any]) -> tuple[bool, ...]:
  """Which levels attend, from the kinds of blocks."""
  for name, kinds in (("down_block_types", _DOWN), ("up_block_types", _UP)):
    for kind in fields[name]:
      if kind not in kinds.values():
        raise UserError(
          f"{name}: {kind!r} is not supported; choices: "
          f"{', '.join(kinds.values())}"
        )
  if fields["mid_block_type"] != _MID:
    raise UserError(
      f"mid_block_type={fields['mid_block_type']!r} is not supported: IF's "
      f"form has {_MID!r}"
    )
  down = tuple(kind == _DOWN[True] for kind in fields["down_block_types"])
  up = tuple(kind == _UP[True] for kind in fields["up_block_types"])
  if down != up[::-1]:
    raise UserError(
      "up_block_types is not supported: it does not mirror down_block_types"
    )
  return down


def _layer(
  source: str, target: str, transform: Transform = LINEAR
) -> Iterator[Rule]:
  yield Rule(f"{source}.weight", f"{target}/kernel", transform)
  yield Rule(f"{source}.bias", f"{target}/bias")


def _resnet(source: str, target: str) -> Iterator[Rule]:
  yield from norm(f"{source}.norm{{k}}", f"{target}/norm{{k}}")
  yield from _layer(f"{source}.conv{{k}}", f"{target}/conv{{k}}", CONV2D)
  yield from _layer(f"{source}.conv_shortcut", f"{target}/shortcut", CONV2D)
  yield from _layer(f"{source}.time_emb_proj", f"{target}/time_proj")


def _block(source: str, target: str) -> Iterator[Rule]:
  yield from _resnet(f"{source}.resnets.{{i}}", f"{target}/resnet_{{i}}")
  attention, ours = f"{source}.attentions.{{i}}", f"{target}/attention_{{i}}"
  yield from norm(f"{attention}.group_norm", f"{ours}/norm")
  yield from norm(f"{attention}.norm_cross", f"{ours}/norm_text")
  yield from _layer(f"{attention}.to_{{p:q|k|v}}", f"{ours}/to_{{p}}")
  yield from _layer(f"{attention}.add_{{p:k|v}}_proj", f"{ours}/text_{{p}}")
  yield from _layer(f"{attention}.to_out.0", f"{ours}/to_out")
