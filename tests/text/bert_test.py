# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.text.bert import Bert, BertConfig
from lumiere_jax.weights.bert import RULES
from lumiere_jax.weights.rules import apply_rules


def _config(fields):
  """Our config from Hugging Face's."""
  return BertConfig(
    vocab_size=fields["vocab_size"],
    max_positions=fields["max_position_embeddings"],
    width=fields["hidden_size"],
    mlp_width=fields["intermediate_size"],
    num_layers=fields["num_hidden_layers"],
    num_heads=fields["num_attention_heads"],
    norm_eps=fields["layer_norm_eps"],
  )


def _abstract(model):
  tokens = jnp.zeros((1, 5), jnp.int32), jnp.ones((1, 5), bool)
  return jax.eval_shape(model.init, jax.random.key(0), *tokens)["params"]


def _small(maker, shapes, **changes):
  """The small model and its parameters, filled through the rules."""
  model = Bert(dataclasses.replace(_config(maker.SMALL), **changes))
  state = {name: maker.weight(name, shape) for name, shape in shapes.items()}
  return model, apply_rules(state, RULES, _abstract(model))


@pytest.fixture
def small(maker, reference):
  return _small(maker, json.loads(str(reference["small_shapes"])))


def _tokens(maker):
  return tuple(jnp.asarray(x) for x in maker.tokens())


def _error(actual, expected):
  return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


def test_hidden_states_are_those_of_transformers(small, maker, reference):
  model, params = small
  hidden = model.apply({"params": params}, *_tokens(maker))
  assert _error(hidden, reference["small_hidden"]) < 1e-5


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_hidden_states_are_those_of_transformers_live(maker):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  shapes, expected = maker.small_reference()
  model, params = _small(maker, shapes)
  hidden = model.apply({"params": params}, *_tokens(maker))
  assert _error(hidden, expected) < 1e-5


def test_padding_reaches_no_token(small, maker):
  model, params = small
  ids, mask = _tokens(maker)
  other = jnp.where(mask, ids, (ids + 1) % maker.SMALL["vocab_size"])
  first, second = (
    model.apply({"params": params}, i, mask) for i in (ids, other)
  )
  np.testing.assert_array_equal(first[mask], second[mask])
  # and the mask is what keeps it out
  unmasked = model.apply({"params": params}, ids, jnp.ones_like(mask))
  assert _error(unmasked[mask], np.asarray(first[mask])) > 0.01


def test_bfloat16_computes_softmax_and_norms_in_float32(small, maker):
  model, params = small
  half = Bert(dataclasses.replace(model.cfg, dtype="bfloat16"))
  # 11 tokens, so that scores have a shape that nothing else has.
  tokens = tuple(x[:, :11] for x in _tokens(maker))
  hidden = half.apply({"params": params}, *tokens)
  assert hidden.dtype == jnp.bfloat16
  full = np.asarray(model.apply({"params": params}, *tokens))
  assert 1e-4 < _error(hidden.astype(jnp.float32), full) < 0.05
  program = str(jax.make_jaxpr(half.apply)({"params": params}, *tokens))
  for primitive in ("exp", "rsqrt"):
    types = re.findall(rf":(\w+)\[[\d,]*\] = {primitive} ", program)
    assert len(types) >= model.cfg.num_layers
    assert set(types) == {"f32"}
  scores = re.findall(r":(\w+)\[4,4,11,11\] = dot_general", program)
  assert scores == ["f32"] * model.cfg.num_layers


def test_default_config_has_the_size_of_minilm():
  embed = (30522 + 512 + 2 + 2) * 384
  layer = 4 * (384 + 1) * 384 + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
  params = _abstract(Bert(BertConfig()))
  assert trees.count(params) == embed + 6 * layer
  assert {x.dtype for x in jax.tree.leaves(params)} == {np.dtype(np.float32)}


def test_default_config_is_that_of_the_package(minilm):
  fields = json.loads((minilm / "config.json").read_text())
  assert BertConfig() == _config(fields)
  assert fields["hidden_act"] == "gelu"
  assert fields["type_vocab_size"] == BertConfig().token_types


def test_heads_must_divide_the_width():
  with pytest.raises(UserError, match="num_heads=5 must divide width=384"):
    BertConfig(num_heads=5)
