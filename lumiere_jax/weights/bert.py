# SPDX-License-Identifier: Apache-2.0
"""Rules from Hugging Face's BertModel to the encoder of `text/bert.py`."""

from pathlib import Path

from lumiere_jax.shapes import PyTree
from lumiere_jax.weights.lazy import open_safetensors
from lumiere_jax.weights.rules import LINEAR, Ignore, Rule, Rules, apply_rules

_LAYER = "encoder.layer.{i}."


def _dense(source: str, target: str) -> list[Rule]:
  return [
    Rule(f"{source}.weight", f"{target}/kernel", LINEAR),
    Rule(f"{source}.bias", f"{target}/bias"),
  ]


def _norm(source: str, target: str) -> list[Rule]:
  return [
    Rule(f"{source}.weight", f"{target}/scale"),
    Rule(f"{source}.bias", f"{target}/bias"),
  ]


RULES: Rules = (
  Rule(
    "embeddings.{part:word|position|token_type}_embeddings.weight",
    "{part}_embed/embedding",
  ),
  *_norm("embeddings.LayerNorm", "embed_norm"),
  *_dense(
    _LAYER + "attention.self.{part:query|key|value}",
    "layer_{i}/attention/{part}",
  ),
  *_dense(_LAYER + "attention.output.dense", "layer_{i}/attention/out"),
  *_norm(_LAYER + "attention.output.LayerNorm", "layer_{i}/attention_norm"),
  *_dense(_LAYER + "intermediate.dense", "layer_{i}/mlp_in"),
  *_dense(_LAYER + "output.dense", "layer_{i}/mlp_out"),
  *_norm(_LAYER + "output.LayerNorm", "layer_{i}/mlp_norm"),
  Ignore("embeddings.position_ids", "a constant, 0 1 2 ..."),
  Ignore("pooler.dense.{leaf:weight|bias}", "we use features per token"),
)


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
