# SPDX-License-Identifier: Apache-2.0
"""Rules and configuration from Hugging Face's T5 to `text/t5.py`.

Files of the whole T5 serve as well as files of its encoder alone.
"""

from collections.abc import Collection, Mapping
from typing import Any

from lumiere_jax.errors import UserError
from lumiere_jax.weights.rules import LINEAR, Ignore, Rule, Rules

_ATTENTION = "encoder.block.{i}.layer.0."
_MLP = "encoder.block.{i}.layer.1."

# Theirs to ours.
_DENSE = {
  _ATTENTION + "SelfAttention.q": "layer_{i}/attention/query",
  _ATTENTION + "SelfAttention.k": "layer_{i}/attention/key",
  _ATTENTION + "SelfAttention.v": "layer_{i}/attention/value",
  _ATTENTION + "SelfAttention.o": "layer_{i}/attention/out",
  _MLP + "DenseReluDense.wi_0": "layer_{i}/mlp_gate",
  _MLP + "DenseReluDense.wi_1": "layer_{i}/mlp_in",
  _MLP + "DenseReluDense.wo": "layer_{i}/mlp_out",
}
_NORMS = {
  _ATTENTION + "layer_norm": "layer_{i}/attention_norm",
  _MLP + "layer_norm": "layer_{i}/mlp_norm",
  "encoder.final_layer_norm": "final_norm",
}

# One tensor under two names; a file may hold it under either or both.
_EMBEDDING = "shared.weight"
_ALIAS = "encoder.embed_tokens.weight"

_REST: Rules = (
  Rule(
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "relative_bias/table/embedding",
  ),
  *(Rule(f"{k}.weight", f"{v}/kernel", LINEAR) for k, v in _DENSE.items()),
  *(Rule(f"{k}.weight", f"{v}/scale") for k, v in _NORMS.items()),
  Ignore("decoder.{rest:.+}", "we use the encoder only"),
  Ignore("lm_head.weight", "it belongs to the decoder"),
)
RULES: Rules = (
  Rule(_EMBEDDING, "token_embed/embedding"),
  Ignore(_ALIAS, f"{_EMBEDDING} under another name"),
  *_REST,
)

# Ours to theirs, and the value that transformers takes where none is given.
_FIELDS = {
  "vocab_size": ("vocab_size", 32128),
  "width": ("d_model", 512),
  "head_width": ("d_kv", 64),
  "mlp_width": ("d_ff", 2048),
  "num_layers": ("num_layers", 6),
  "num_heads": ("num_heads", 8),
  "num_buckets": ("relative_attention_num_buckets", 32),
  "max_distance": ("relative_attention_max_distance", 128),
  "norm_eps": ("layer_norm_epsilon", 1e-6),
}
# What our encoder fixes, and again what stands for no value. Whether the
# decoder's head is tied (`tie_word_embeddings`) is nothing to the encoder.
_FIXED = {
  "model_type": ("t5", None),
  "feed_forward_proj": ("gated-gelu", "relu"),
  "is_gated_act": (True, True),
  "dense_act_fn": ("gelu_new", "gelu_new"),
  "is_decoder": (False, False),
}


def rules(keys: Collection[str]) -> Rules:
  """The rules for a file that holds these tensors."""
  if _EMBEDDING in keys or _ALIAS not in keys:
    return RULES
  return (Rule(_ALIAS, "token_embed/embedding"), *_REST)


def t5_config(fields: Mapping[str, Any]) -> dict[str, int | float]:
  """Returns the fields of `text.t5.T5Config` that a config.json stands for.

  Args:
    fields: of Hugging Face's configuration; those of the decoder, of training
      and of generation are not looked at.

  Raises:
    UserError: it is no T5, one of another form than v1.1, or has a field of
      the wrong type.
  """
  for name, (wanted, default) in _FIXED.items():
    value = fields.get(name, default)
    if value != wanted:
      raise UserError(
        f"T5's {name}={value!r} is not supported, only {wanted!r}"
      )
  return {ours: _number(fields, *theirs) for ours, theirs in _FIELDS.items()}


def _number(
  fields: Mapping[str, Any], name: str, default: int | float
) -> int | float:
  value = fields.get(name, default)
  if type(value) is not type(default):
    kind = type(default).__name__
    raise UserError(f"T5's {name}={value!r} must be of type {kind}")
  return value
