# SPDX-License-Identifier: Apache-2.0
"""Rules from transformers' VideoMAE to `features/videomae.py`."""

from collections.abc import Collection, Mapping
from typing import Any

from lumiere_jax.errors import UserError
from lumiere_jax.weights.rules import CONV3D, LINEAR, Ignore, Rule, Rules, norm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's.
_DENSE = {
  "attention.attention.query": "query",
  "attention.attention.key": "key",
  "attention.attention.value": "value",
  "attention.output.dense": "out",
  "intermediate.dense": "expand",
  "output.dense": "project",
}
_NORMS = {"layernorm_before": "attention_norm", "layernorm_after": "mlp_norm"}
_BIASES = {"q_bias": "query", "v_bias": "value"}


def rules(keys: Collection[str]) -> Rules:
  """The rules for a file: of the encoder alone, or of a classifier."""
  inside = "videomae." if any(k.startswith("videomae.") for k in keys) else ""
  layer, to = f"{inside}encoder.layer.{{i}}", "layers/layer_{i}"
  patch = f"{inside}embeddings.patch_embeddings.projection"
  table: list[Rule | Ignore] = [
    Rule(f"{patch}.weight", "patches/kernel", CONV3D),
    Rule(f"{patch}.bias", "patches/bias"),
    Ignore("classifier.{leaf:weight|bias}", "we use features"),
    Ignore("{part:decoder|encoder_to_decoder}.{rest:.+}", "it is not encoded"),
    Ignore("mask_token", "nothing is masked"),
    *norm("fc_norm", "norm"),
    *norm(f"{inside}layernorm", "norm"),
  ]
  for name, part in _DENSE.items():
    table.append(Rule(f"{layer}.{name}.weight", f"{to}_{part}/kernel", LINEAR))
    table.append(Rule(f"{layer}.{name}.bias", f"{to}_{part}/bias"))
  for name, part in _BIASES.items():
    table.append(
      Rule(f"{layer}.attention.attention.{name}", f"{to}_{part}/bias")
    )
  for name, part in _NORMS.items():
    table += norm(f"{layer}.{name}", f"{to}_{part}")
  return table


_FIELDS = {
  "num_hidden_layers": ("layers", 12),
  "hidden_size": ("width", 768),
  "num_attention_heads": ("heads", 12),
  "intermediate_size": ("hidden", 3072),
  "image_size": ("image_px", 224),
  "patch_size": ("patch_px", 16),
  "tubelet_size": ("tubelet", 2),
  "num_frames": ("frames", 16),
  "hidden_act": ("activation", "gelu"),
  "layer_norm_eps": ("epsilon", 1e-12),
  "qkv_bias": ("qkv_bias", True),
  "use_mean_pooling": ("mean_pooling", True),
}


def config(fields: Mapping[str, Any]) -> dict[str, Any]:
  """What a model's config.json says, as fields of `VideoMAEConfig`.

  Raises:
    UserError: it is of another kind, or has another activation.
  """
  if fields.get("model_type") != "videomae":
    raise UserError(
      f"model_type={fields.get('model_type')!r} is not 'videomae'"
    )
  found = {
    ours: fields.get(name, default) for name, (ours, default) in _FIELDS.items()
  }
  if found["activation"] != "gelu":
    raise UserError(f"hidden_act={found['activation']!r} must be 'gelu'")
  return found
