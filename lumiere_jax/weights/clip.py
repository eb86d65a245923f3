# SPDX-License-Identifier: Apache-2.0
"""Rules from transformers' CLIP to `features/clip.py`."""

from collections.abc import Collection, Mapping
from typing import Any

from lumiere_jax.errors import UserError
from lumiere_jax.weights.rules import CONV2D, LINEAR, Ignore, Rule, Rules, norm

# Of the pixels that it was trained on.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_TOWERS = {"vision": "vision_model", "text": "text_model"}
_DENSE = {
  "self_attn.q_proj": "query",
  "self_attn.k_proj": "key",
  "self_attn.v_proj": "value",
  "self_attn.out_proj": "out",
  "mlp.fc1": "expand",
  "mlp.fc2": "project",
}
ACTIVATIONS = ("quick_gelu", "gelu")  # Those of features/transformer.py.
_NORMS = {"layer_norm1": "attention_norm", "layer_norm2": "mlp_norm"}


def rules(keys: Collection[str]) -> Rules:
  """The rules for any of its files; they do not depend on the `keys`."""
  del keys
  table: list[Rule | Ignore] = [
    Rule("vision_model.embeddings.class_embedding", "vision/class_embedding"),
    Rule(
      "vision_model.embeddings.patch_embedding.weight",
      "vision/patches/kernel",
      CONV2D,
    ),
    Rule(
      "vision_model.embeddings.position_embedding.weight", "vision/positions"
    ),
    Rule("text_model.embeddings.token_embedding.weight", "text/words"),
    Rule("text_model.embeddings.position_embedding.weight", "text/positions"),
    Rule("visual_projection.weight", "vision/projection/kernel", LINEAR),
    Rule("text_projection.weight", "text/projection/kernel", LINEAR),
    Ignore("logit_scale", "it matters in training only"),
    Ignore(
      "{tower:vision|text}_model.embeddings.position_ids", "they are 0, 1, ..."
    ),
    *norm("vision_model.pre_layrnorm", "vision/norm_before"),
    *norm("vision_model.post_layernorm", "vision/norm_after"),
    *norm("text_model.final_layer_norm", "text/norm_after"),
  ]
  for ours, theirs in _TOWERS.items():
    layer, to = f"{theirs}.encoder.layers.{{i}}", f"{ours}/layers/layer_{{i}}"
    for name, part in _DENSE.items():
      table += [
        Rule(f"{layer}.{name}.weight", f"{to}_{part}/kernel", LINEAR),
        Rule(f"{layer}.{name}.bias", f"{to}_{part}/bias"),
      ]
    for name, part in _NORMS.items():
      table += norm(f"{layer}.{name}", f"{to}_{part}")
  return table


def config(fields: Mapping[str, Any]) -> dict[str, Any]:
  """What a model's config.json says, as fields of `CLIPConfig`.

  Raises:
    UserError: it is of another kind, its towers do not go together, or its
      captions do not end in the highest token.
  """
  if fields.get("model_type") != "clip":
    raise UserError(f"model_type={fields.get('model_type')!r} is not 'clip'")
  vision, text = (
    {**_DEFAULTS[name], **(fields.get(f"{name}_config") or {})}
    for name in ("vision", "text")
  )
  for name in ("hidden_act", "layer_norm_eps"):
    if vision[name] != text[name]:
      raise UserError(
        f"{name} is {vision[name]!r} of frames and {text[name]!r} of captions"
      )
  if vision["hidden_act"] not in ACTIVATIONS:
    raise UserError(
      f"hidden_act={vision['hidden_act']!r} must be one of "
      f"{', '.join(ACTIVATIONS)}"
    )
  # 2 is what older files say, where transformers takes the highest one.
  if text["eos_token_id"] not in (2, text["vocab_size"] - 1):
    raise UserError(
      f"eos_token_id={text['eos_token_id']!r} must be the last of vocab_size="
      f"{text['vocab_size']}"
    )
  found = {
    "embedding": fields.get("projection_dim", 512),
    "image_px": vision["image_size"],
    "patch_px": vision["patch_size"],
    "vocabulary": text["vocab_size"],
    "tokens": text["max_position_embeddings"],
    "activation": vision["hidden_act"],
    "epsilon": vision["layer_norm_eps"],
  }
  for name, values in (("vision", vision), ("text", text)):
    found |= {
      f"{name}_layers": values["num_hidden_layers"],
      f"{name}_width": values["hidden_size"],
      f"{name}_heads": values["num_attention_heads"],
      f"{name}_hidden": values["intermediate_size"],
    }
  return found


# What transformers does not write where it is not changed.
_SHARED = {
  "num_hidden_layers": 12,
  "hidden_act": "quick_gelu",
  "layer_norm_eps": 1e-5,
}
_DEFAULTS = {
  "vision": {
    **_SHARED,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 32,
  },
  "text": {
    **_SHARED,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
  },
}
