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
from lumiere_jax.text.t5 import T5Config, T5Encoder, relative_buckets
from lumiere_jax.weights.lazy import open_safetensors
from lumiere_jax.weights.rules import apply_rules
from lumiere_jax.weights.t5 import RULES, t5_config

CONFIGS = ("wide", "narrow", "long")


def _load(path, target):
  with open_safetensors(path) as source:
    return apply_rules(source, RULES, target)


def _abstract(model):
  tokens = jnp.zeros((1, 5), jnp.int32), jnp.ones((1, 5), bool)
  return jax.eval_shape(model.init, jax.random.key(0), *tokens)["params"]


def _small(maker, fields, shapes):
  """A small encoder and its parameters, filled through the rules."""
  model = T5Encoder(T5Config(**t5_config(fields)))
  state = {name: maker.weight(name, shape) for name, shape in shapes.items()}
  return model, apply_rules(state, RULES, _abstract(model))


@pytest.fixture(params=CONFIGS)
def config(request):
  return request.param


@pytest.fixture
def small(config, t5_maker, t5_reference):
  stored = (t5_reference[f"{config}_{name}"] for name in ("fields", "shapes"))
  return _small(t5_maker, *(json.loads(str(text)) for text in stored))


def _tokens(maker, config):
  return tuple(jnp.asarray(x) for x in maker.tokens(config))


def _hidden(model, params, ids, mask):
  return jax.jit(model.apply)({"params": params}, ids, mask)


def _error(actual, expected):
  difference = np.asarray(actual, np.float32) - np.asarray(expected, np.float32)
  return np.abs(difference).max() / np.abs(expected).max()


def test_hidden_states_are_those_of_transformers(
  small, config, t5_maker, t5_reference
):
  model, params = small
  hidden = _hidden(model, params, *_tokens(t5_maker, config))
  assert _error(hidden, t5_reference[f"{config}_hidden"]) < 1e-5


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_hidden_states_are_those_of_transformers_live(config, t5_maker):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  shapes, expected = t5_maker.encoder_reference(config)
  model, params = _small(t5_maker, t5_maker.fields(config), shapes)
  hidden = _hidden(model, params, *_tokens(t5_maker, config))
  assert _error(hidden, expected) < 1e-5


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_file_of_a_whole_t5_gives_its_encoder_live(t5_maker, tmp_path):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  torch.manual_seed(0)
  theirs = transformers.T5ForConditionalGeneration(
    transformers.T5Config.from_dict(t5_maker.fields("narrow"))
  ).eval()
  theirs.save_pretrained(tmp_path)
  fields = json.loads((tmp_path / "config.json").read_text())
  model = T5Encoder(T5Config(**t5_config(fields)))
  params = _load(tmp_path / "model.safetensors", _abstract(model))
  hidden = _hidden(model, params, *_tokens(t5_maker, "narrow"))
  expected = t5_maker.run(theirs.encoder, *t5_maker.tokens("narrow"))
  assert _error(hidden, expected) < 1e-5


def _check_buckets(maker, buckets, expected):
  positions = np.arange(maker.NUM_TOKENS)
  offsets = positions - positions[:, None]
  np.testing.assert_array_equal(buckets, expected[offsets + positions[-1]])


def test_buckets_are_those_of_transformers(t5_maker, t5_reference):
  for pair in t5_maker.BUCKETS:
    buckets = relative_buckets(t5_maker.NUM_TOKENS, *pair)
    expected = t5_reference["buckets_{}_{}".format(*pair)]
    _check_buckets(t5_maker, buckets, expected)


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_buckets_are_those_of_transformers_live(t5_maker):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  for pair in t5_maker.BUCKETS:
    buckets = relative_buckets(t5_maker.NUM_TOKENS, *pair)
    _check_buckets(t5_maker, buckets, t5_maker.bucket_reference(*pair))


def test_padding_reaches_no_token(small, config, t5_maker):
  model, params = small
  ids, mask = _tokens(t5_maker, config)
  other = jnp.where(mask, ids, (ids + 1) % model.cfg.vocab_size)
  first = _hidden(model, params, ids, mask)
  second = _hidden(model, params, other, mask)
  np.testing.assert_array_equal(first[mask], second[mask])
  # and the mask is what keeps it out
  unmasked = _hidden(model, params, ids, jnp.ones_like(mask))
  assert _error(unmasked[mask], first[mask]) > 0.01


def test_bfloat16_computes_softmax_norms_and_sums_in_float32(
  small, config, t5_maker
):
  model, params = small
  half = T5Encoder(dataclasses.replace(model.cfg, dtype="bfloat16"))
  # 11 tokens, so that scores have a shape that nothing else has.
  tokens = tuple(x[:3, :11] for x in _tokens(t5_maker, config))
  hidden = _hidden(half, params, *tokens)
  assert hidden.dtype == jnp.bfloat16
  full = _hidden(model, params, *tokens)
  assert 1e-4 < _error(hidden, full) < 0.05
  program = str(jax.make_jaxpr(half.apply)({"params": params}, *tokens))
  for primitive in ("exp", "rsqrt"):
    types = re.findall(rf":(\w+)\[[\d,]*\] = {primitive} ", program)
    assert len(types) >= model.cfg.num_layers
    assert set(types) == {"f32"}
  shape = rf"3,{model.cfg.num_heads},11,11"
  scores = re.findall(rf":(\w+)\[{shape}\] = dot_general", program)
  assert scores == ["f32"] * model.cfg.num_layers
  sums = re.findall(rf":(\w+)\[3,11,{model.cfg.width}\] = add ", program)
  assert sums == ["f32"] * 2 * model.cfg.num_layers


def test_bfloat16_holds_where_float16_overflows():
  """Two layers at XXL's widths, with MLPs as loud as its own."""
  cfg = T5Config(vocab_size=16, num_layers=2, param_dtype="bfloat16")
  params = _loud(trees.flatten(_abstract(T5Encoder(cfg))))
  ids = jnp.asarray([[3, 7, 7, 9, 1, 0]])
  outputs = []
  for dtype in ("float32", "bfloat16"):
    hidden, state = T5Encoder(dataclasses.replace(cfg, dtype=dtype)).apply(
      {"params": params},
      ids,
      ids > 0,
      capture_intermediates=lambda module, _: module.name == "mlp_out",
      mutable="intermediates",
    )
    outputs.append(hidden)
    mlps = jax.tree.leaves(state)
    assert [x.dtype for x in mlps] == [jnp.dtype(dtype)] * 2
    assert min(abs(x).max() for x in mlps) > jnp.finfo(jnp.float16).max
  full, half = outputs
  assert jnp.isfinite(half).all()
  assert _error(half, full) < 0.02


def _loud(leaves):
  """Parameters whose MLPs give values beyond float16's range."""
  # A prime number of values, repeated: quick, and no two rows are alike.
  values = np.random.default_rng(0).normal(size=1_000_003)
  scales = {"query": 1 / 8, "mlp_in": 100.0, "mlp_out": 400.0}
  params = {}
  for path, leaf in leaves.items():
    scale, offset = 0.3, 1.0 if path.endswith("norm/scale") else 0.0
    if path.endswith("kernel"):
      scale = scales.get(path.split("/")[-2], 1.0) * leaf.shape[0] ** -0.5
    block = jnp.asarray(offset + scale * values, leaf.dtype)
    params[path] = jnp.resize(block, leaf.shape)
  return trees.unflatten(params)


def test_default_config_has_the_size_of_xxl():
  inner = 64 * 64
  layer = 4 * 4096 * inner + 3 * 4096 * 10240 + 2 * 4096
  params = _abstract(T5Encoder(T5Config(param_dtype="bfloat16")))
  expected = 32128 * 4096 + 32 * 64 + 24 * layer + 4096
  assert trees.count(params) == expected == 4_762_310_656
  leaves = jax.tree.leaves(params)
  assert {type(x) for x in leaves} == {jax.ShapeDtypeStruct}
  assert {x.dtype for x in leaves} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"num_heads": 0}, "t5: num_heads=0 must be at least 1"),
    ({"num_buckets": 3}, "t5: num_buckets=3 must be at least 4"),
    ({"max_distance": 8}, "t5: max_distance=8 must be at least 9"),
    ({"norm_eps": 0.0}, r"t5: norm_eps=0\.0 must be positive"),
    ({"dtype": "float16"}, r"unknown t5\.dtype='float16'"),
  ],
)
def test_impossible_config_is_refused(change, message):
  with pytest.raises(UserError, match=message):
    T5Config(**change)
