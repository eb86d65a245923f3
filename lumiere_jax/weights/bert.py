# SPDX-License-Identifier: Apache-2.0
"""Rules from Hugging Face's BertModel to the encoder of `text/bert.py`."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree
from lumiere_jax.weights.lazy import open_safetensors
from lumiere_jax.weights.rules import (
  LINEAR,
  Ignore,
  Rule,
  Rules,
  apply_rules,
  norm,
)

_LAYER = "encoder.layer.{i}."


def _dense(source: str, target: str) -> list[Rule]:
  return [
    Rule(f"{source}.weight", f"{target}/kernel", LINEAR),
    Rule(f"{source}.bias", f"{target}/bias"),
  ]


RULES: Rules = (
  Rule(
    "embeddings.{part:word|position|token_type}_embeddings.weight",
    "{part}_embed/embedding",
  ),
  *norm("embeddings.LayerNorm", "embed_norm"),
  *_dense(
    _LAYER + "attention.self.{part:query|key|value}",
    "layer_{i}/attention/{part}",
  ),
  *_dense(_LAYER + "attention.output.dense", "layer_{i}/attention/out"),
  *norm(_LAYER + "attention.output.LayerNorm", "layer_{i}/attention_norm"),
  *_dense(_LAYER + "intermediate.dense", "layer_{i}/mlp_in"),
  *_dense(_LAYER + "output.dense", "layer_{i}/mlp_out"),
  *norm(_LAYER + "output.LayerNorm", "layer_{i}/mlp_norm"),
  Ignore("embeddings.position_ids", "a constant, 0 1 2 ..."),
  Ignore("pooler.dense.{leaf:weight|bias}", "we use features per token"),
)
_PREFIX = "bert."


def rules(keys: Collection[str]) -> Rules:
  """The rules for a file with these tensors: of a BERT, or one with heads."""
  if not any(key.startswith(_PREFIX) for key in keys):
    return RULES
  inside = [replace(rule, source=_PREFIX + rule.source) for rule in RULES]
  return (*inside, Ignore("cls.{rest:.+}", "it belongs to a head"))


# Ours to theirs.
_FIELDS = {
  "vocab_size": "vocab_size",
  "max_positions": "max_position_embeddings",
  "token_types": "type_vocab_size",
  "width": "hidden_size",
  "mlp_width": "intermediate_size",
  "num_layers": "num_hidden_layers",
  "num_heads": "num_attention_heads",
  "norm_eps": "layer_norm_eps",
}
# What our encoder fixes; also what transformers takes where none is given.
_FIXED = {
  "model_type": "bert",
  "hidden_act": "gelu",
  "position_embedding_type": "absolute",
  "is_decoder": False,
}


def bert_config(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of `text.bert.BertConfig` that a config.json tells.

  Raises:
    UserError: it is no BERT, or of another form, or leaves a size out.
  """
  for name, wanted in _FIXED.items():
    value = fields.get(name, wanted)
    if value != wanted:
      raise UserError(
        f"BERT's {name}={value!r} is not supported, only {wanted!r}"
      )
  missing = [theirs for theirs in _FIELDS.values() if theirs not in fields]
  if missing:
    raise UserError(f"BERT's {missing[0]} is missing")
  return {ours: fields[theirs] for ours, theirs in _FIELDS.items()}


def load_bert(path: Path, target: PyTree) -> PyTree:
  """Returns the parameters of a BertModel's safetensors file.

  Args:
    path: the file, or a folder of shards.
    target: abstract parameters of the encoder.

  Raises:
    UserError: the file cannot be read or does not fit.
  """
  with open_safetensors(path) as source:
    return apply_rules(source, RULES, target)
