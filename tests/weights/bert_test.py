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
from lumiere_jax.text.bert import Bert, BertConfig
from lumiere_jax.weights.bert import RULES, load_bert
from lumiere_jax.weights.rules import apply_rules, invert

FIXTURE = pathlib.Path(__file__).parent.parent / "fixtures" / "bert.npz"


@pytest.fixture
def state():
  """A state dict with the keys and shapes that transformers gives."""
  shapes = json.loads(str(np.load(FIXTURE)["small_shapes"]))
  random = np.random.default_rng(0)
  return {
    name: random.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


@pytest.fixture
def target():
  cfg = BertConfig(
    vocab_size=50,
    max_positions=20,
    width=48,
    mlp_width=96,
    num_layers=3,
    num_heads=4,
  )
  tokens = jnp.zeros((1, 5), jnp.int32), jnp.ones((1, 5), bool)
  init = Bert(cfg).init
  return jax.eval_shape(init, jax.random.key(0), *tokens)["params"]


def test_file_fills_every_parameter(state, target, tmp_path):
  # Older files hold the positions' numbers as well.
  old = state | {"embeddings.position_ids": np.arange(20)[None]}
  save_file(old, tmp_path / "model.safetensors")
  params = load_bert(tmp_path / "model.safetensors", target)
  assert trees.diff(target, params) == ""
  np.testing.assert_array_equal(
    params["layer_2"]["attention"]["value"]["kernel"],
    state["encoder.layer.2.attention.self.value.weight"].T,
  )


def test_all_but_the_pooler_can_be_exported_again(state, target):
  params = trees.flatten(apply_rules(state, RULES, target))
  kept = {k: v for k, v in state.items() if not k.startswith("pooler")}
  back = apply_rules(params, invert(RULES), kept)
  assert trees.fingerprint(back) == trees.fingerprint(kept)


def test_file_with_other_layers_is_refused(state, target, tmp_path):
  state["encoder.layer.3.output.dense.bias"] = np.zeros(48, np.float32)
  del state["encoder.layer.1.output.dense.bias"]
  save_file(state, tmp_path / "model.safetensors")
  with pytest.raises(UserError) as error:
    load_bert(tmp_path / "model.safetensors", target)
  assert str(error.value).splitlines()[1:] == [
    "no such target (1):",
    "  layer_3/mlp_out/bias <- encoder.layer.3.output.dense.bias",
    "not filled (1):",
    "  layer_1/mlp_out/bias",
  ]


def test_file_that_is_none_is_refused(target, tmp_path):
  (tmp_path / "model.safetensors").write_text("version https://git-lfs")
  for name in ("model.safetensors", "absent.safetensors"):
    with pytest.raises(UserError, match=f"cannot read weights .*{name}"):
      load_bert(tmp_path / name, target)
