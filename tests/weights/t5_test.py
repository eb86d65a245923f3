# SPDX-License-Identifier: Apache-2.0
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.text.t5 import T5Config, T5Encoder
from lumiere_jax.weights.lazy import open_safetensors
from lumiere_jax.weights.rules import apply_rules, invert
from lumiere_jax.weights.t5 import RULES, rules, t5_config

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures" / "t5.npz"
V1_1_XXL = {
  "architectures": ["T5ForConditionalGeneration"],
  "d_ff": 10240,
  "d_kv": 64,
  "d_model": 4096,
  "dropout_rate": 0.1,
  "feed_forward_proj": "gated-gelu",
  "is_encoder_decoder": True,
  "layer_norm_epsilon": 1e-06,
  "model_type": "t5",
  "num_decoder_layers": 24,
  "num_heads": 64,
  "num_layers": 24,
  "relative_attention_num_buckets": 32,
  "tie_word_embeddings": False,
  "vocab_size": 32128,
}


def _load(path, target):
  with open_safetensors(path) as source:
    return apply_rules(source, RULES, target)


@pytest.fixture
def fields():
  """What a config.json of transformers says of a small T5."""
  return json.loads(str(np.load(FIXTURE)["narrow_fields"]))


@pytest.fixture
def state():
  """A state dict with the keys and shapes that transformers gives."""
  shapes = json.loads(str(np.load(FIXTURE)["narrow_shapes"]))
  random = np.random.default_rng(0)
  return {
    name: random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


@pytest.fixture
def target(fields):
  tokens = jnp.zeros((1, 5), jnp.int32), jnp.ones((1, 5), bool)
  init = T5Encoder(T5Config(**t5_config(fields))).init
  return jax.eval_shape(init, jax.random.key(0), *tokens)["params"]


def test_file_fills_every_parameter(state, target, tmp_path):
  assert "encoder.embed_tokens.weight" in state  # the same as shared.weight
  save_file(state, tmp_path / "model.safetensors")
  params = _load(tmp_path / "model.safetensors", target)
  assert trees.diff(target, params) == ""
  for path, key in {
    "token_embed/embedding": "shared",
    "relative_bias/table/embedding": (
      "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"
    ),
    "layer_1/mlp_norm/scale": "encoder.block.1.layer.1.layer_norm",
  }.items():
    leaf = trees.flatten(params)[path]
    np.testing.assert_array_equal(leaf, state[f"{key}.weight"])
  np.testing.assert_array_equal(
    params["layer_1"]["mlp_gate"]["kernel"],
    state["encoder.block.1.layer.1.DenseReluDense.wi_0.weight"].T,
  )


def test_decoder_is_left_out(state, target, tmp_path):
  encoder = {k: v for k, v in state.items() if "embed_tokens" not in k}
  decoder = {
    key.replace("encoder", "decoder"): value
    for key, value in encoder.items()
    if key.startswith("encoder")
  }
  whole = encoder | decoder | {"lm_head.weight": state["shared.weight"]}
  assert len(whole) == 2 * len(encoder)
  save_file(whole, tmp_path / "model.safetensors")
  params = _load(tmp_path / "model.safetensors", target)
  expected = apply_rules(state, RULES, target)
  assert trees.fingerprint(params) == trees.fingerprint(expected)


@pytest.mark.parametrize(
  "name", ["shared.weight", "encoder.embed_tokens.weight"]
)
def test_embedding_may_have_either_of_its_names(state, target, name):
  expected = apply_rules(state, RULES, target)
  names = ["shared.weight", "encoder.embed_tokens.weight"]
  embedding = state["shared.weight"]
  one = {k: v for k, v in state.items() if k not in names} | {name: embedding}
  params = apply_rules(one, rules(one), target)
  assert trees.fingerprint(params) == trees.fingerprint(expected)
  del one[name]
  with pytest.raises(UserError, match="token_embed/embedding"):
    apply_rules(one, rules(one), target)


def test_everything_can_be_exported_again(state, target):
  params = trees.flatten(apply_rules(state, RULES, target))
  kept = {k: v for k, v in state.items() if "embed_tokens" not in k}
  back = apply_rules(params, invert(RULES), kept)
  assert trees.fingerprint(back) == trees.fingerprint(kept)


def test_file_with_other_layers_is_refused(state, target, tmp_path):
  block = "encoder.block.{}.layer.0.SelfAttention."
  bias = np.zeros((8, 3), np.float32)
  # as umT5 has it, in every layer
  state[block.format(1) + "relative_attention_bias.weight"] = bias
  state[block.format(2) + "q.weight"] = np.zeros((24, 40), np.float32)
  del state[block.format(1) + "k.weight"]
  save_file(state, tmp_path / "model.safetensors")
  with pytest.raises(UserError) as error:
    _load(tmp_path / "model.safetensors", target)
  assert str(error.value).splitlines()[1:] == [
    "matched by no rule (1):",
    "  encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
    "no such target (1):",
    "  layer_2/attention/query/kernel <- "
    "encoder.block.2.layer.0.SelfAttention.q.weight",
    "not filled (1):",
    "  layer_1/attention/key/kernel",
  ]


def test_config_of_xxl_is_the_default():
  assert T5Config(**t5_config(V1_1_XXL)) == T5Config()


def test_config_takes_every_field(fields):
  assert t5_config(fields) == {
    "vocab_size": 30,
    "width": 40,
    "head_width": 8,
    "mlp_width": 56,
    "num_layers": 2,
    "num_heads": 3,
    "num_buckets": 8,
    "max_distance": 20,
    "norm_eps": 1e-6,
  }
  assert t5_config(fields | {"layer_norm_epsilon": 0.5})["norm_eps"] == 0.5


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_config_without_values_is_that_of_transformers_live():
  transformers = pytest.importorskip("transformers")
  form = {"feed_forward_proj": "gated-gelu"}
  full = transformers.T5Config(**form).to_dict()
  assert t5_config(form | {"model_type": "t5"}) == t5_config(full)


@pytest.mark.parametrize(
  ("name", "value"),
  [
    ("model_type", "umt5"),
    ("model_type", None),
    ("feed_forward_proj", "relu"),
    ("feed_forward_proj", "gated-silu"),
    ("is_gated_act", False),
    ("dense_act_fn", "gelu"),
    ("is_decoder", True),
  ],
)
def test_other_form_is_refused(fields, name, value):
  with pytest.raises(UserError, match=f"T5's {name}={value!r} is not support"):
    t5_config(fields | {name: value})


def test_missing_form_is_the_first_t5s(fields):
  del fields["feed_forward_proj"]
  with pytest.raises(UserError, match="feed_forward_proj='relu'"):
    t5_config(fields)


@pytest.mark.parametrize(
  ("name", "value", "kind"),
  [
    ("d_model", "4096", "int"),
    ("num_heads", True, "int"),
    ("layer_norm_epsilon", None, "float"),
  ],
)
def test_value_of_another_type_is_refused(fields, name, value, kind):
  message = f"T5's {name}={value!r} must be of type {kind}"
  with pytest.raises(UserError, match=message):
    t5_config(fields | {name: value})
