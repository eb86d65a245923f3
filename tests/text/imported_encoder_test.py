# SPDX-License-Identifier: Apache-2.0
"""Text encoders of transformers become ours: folder, sampling, stores."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from lumiere_jax import cli, embed_text, encoders, import_weights, sample, trees
from lumiere_jax.config import from_dict, to_dict
from lumiere_jax.errors import UserError
from lumiere_jax.text.encoder import abstract_params, encoder_module
from lumiere_jax.text.store import TextStore
from lumiere_jax.weights import bert, folder, t5
from lumiere_jax.weights.rules import plan_export
from tests.fixtures import make_unet_fixtures as maker
from tests.models import if_nets

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
WIDTH = maker.BASE["encoder_hid_dim"]
T5 = {
  "model_type": "t5",
  "feed_forward_proj": "gated-gelu",
  "vocab_size": 600,
  "d_model": WIDTH,
  "d_kv": 8,
  "d_ff": 64,
  "num_layers": 2,
  "num_heads": 4,
}
BERT = {
  "model_type": "bert",
  "vocab_size": 30,
  "max_position_embeddings": 40,
  "type_vocab_size": 2,
  "hidden_size": WIDTH,
  "intermediate_size": 64,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "layer_norm_eps": 1e-12,
}
PROMPTS = ["a tiger is walking", "a dolphin", ""]


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
  monkeypatch.setattr(cli, "enable_compilation_cache", lambda: None)


def write(model, kind, fields, read, rules):
  """A model folder that transformers could have written, and its tensors."""
  module = encoder_module(kind, read(fields))
  leaves = trees.flatten(abstract_params(module))
  names = plan_export(leaves, rules)
  state = {n: maker.weight(n, leaf.shape) for n, leaf in names.items()}
  model.mkdir()
  (model / "config.json").write_text(json.dumps(fields))
  save_file(state, model / "model.safetensors")
  return module


def run(kind, source, out):
  flags = [f"--from=hf-{kind}", f"--src={source}", f"--out={out}"]
  import_weights.main([*flags, "--skip_parity"])
  return out


@pytest.fixture
def source(tmp_path):
  """A small T5's folder."""
  write(tmp_path / "t5", "t5", T5, t5.t5_config, t5.RULES)
  shutil.copy(FIXTURES / "t5" / "tokenizer.json", tmp_path / "t5")
  return tmp_path / "t5"


@pytest.fixture
def encoder(tmp_path, source):
  """Our weights folder of it."""
  return run("t5", source, tmp_path / "ours")


def config(path, **text):
  text = {"encoder": "t5", "weights": str(path), "max_tokens": 9, **text}
  return from_dict({"text": text, "model": {"encoder_hid_dim": WIDTH}})


def expected(source, encoder):
  """Features and mask of the prompts, computed with no help of the folder."""
  module = encoder_module("t5", t5.t5_config(T5))
  rules = t5.RULES
  state = load_file(source / "model.safetensors")
  params = import_weights.plan(state, rules, abstract_params(module))
  params = trees.unflatten({p: jnp.asarray(v) for p, v in params.items()})
  tokenizer = encoders.text_encoder(config(encoder)).tokenizer
  ids, mask = map(jnp.asarray, tokenizer(PROMPTS))
  return np.asarray(module.apply({"params": params}, ids, mask)), mask


def test_imported_t5_encodes_as_the_network_does(source, encoder):
  features, mask = encoders.text_encoder(config(encoder)).encode(PROMPTS)
  wanted, wanted_mask = expected(source, encoder)
  np.testing.assert_array_equal(mask, wanted_mask)
  np.testing.assert_allclose(features, wanted, rtol=2e-3, atol=2e-3)
  assert mask[0].sum() > mask[2].sum()


def test_bfloat16_encoder_keeps_its_parameters_in_bfloat16(source, encoder):
  half = encoders.text_encoder(config(encoder, dtype="bfloat16"))
  assert {x.dtype for x in jax.tree.leaves(half.params)} == {
    np.dtype(jnp.bfloat16)
  }
  features, _ = half.encode(PROMPTS)
  wanted, _ = expected(source, encoder)
  assert 1e-4 < np.abs(features - wanted).max() / np.abs(wanted).max() < 0.05


def test_imported_bert_encodes(tmp_path, tokenizer_file):
  write(tmp_path / "b", "bert", BERT, bert.bert_config, bert.RULES)
  shutil.copy(tokenizer_file, tmp_path / "b" / "tokenizer.json")
  ours = run("bert", tmp_path / "b", tmp_path / "ours")
  encoder = encoders.text_encoder(config(ours, encoder="bert"))
  features, mask = encoder.encode(["a dog", "cat spins"])
  assert features.shape == (2, 9, WIDTH)
  assert mask.sum() == 4 + 5


def test_tokenizer_of_a_pipeline_lies_beside_the_encoder(tmp_path, source):
  pipeline = tmp_path / "if"
  shutil.copytree(source, pipeline / "text_encoder")
  (pipeline / "tokenizer").mkdir()
  file = pipeline / "text_encoder" / "tokenizer.json"
  file.rename(pipeline / "tokenizer" / "tokenizer.json")
  ours = run("t5", pipeline, tmp_path / "out")
  assert (ours / "tokenizer.json").is_file()
  shutil.rmtree(pipeline / "tokenizer")
  with pytest.raises(UserError, match="no tokenizer in"):
    run("t5", pipeline, tmp_path / "again")
  assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
  ("kind", "changes", "message"),
  [
    ("t5", {"feed_forward_proj": "relu"}, "config.json: T5's feed_forward_pr"),
    ("t5", {"num_layers": 3}, "layer_2/attention/key/kernel"),
    ("bert", {}, "config.json: BERT's model_type='t5' is not supported"),
  ],
)
def test_encoder_of_another_form_is_refused(
  tmp_path, source, kind, changes, message
):
  (source / "config.json").write_text(json.dumps({**T5, **changes}))
  with pytest.raises(UserError, match=message):
    run(kind, source, tmp_path / "out")
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ({"weights": ""}, "text.encoder='t5' needs its weights: give --text_enc"),
    ({"encoder": "bert"}, "holds a 't5', the model was trained with .*'bert'"),
    ({"weights": "demo"}, "cannot read demo"),
  ],
)
def test_another_encoder_is_refused(encoder, text, message):
  with pytest.raises(UserError, match=message):
    encoders.text_encoder(config(encoder, **text))


def test_encoder_of_another_width_is_refused(encoder):
  values = to_dict(config(encoder))
  values["model"]["encoder_hid_dim"] = 8
  with pytest.raises(UserError, match="encoder_hid_dim=8 must be 48"):
    encoders.text_encoder(from_dict(values))


def test_image_is_sampled_with_imported_weights(tmp_path, encoder, monkeypatch):
  """What a user of IF does, as in configs/if_m.py, but small."""
  unet = tmp_path / "unet"
  unet.mkdir()
  fields = {**maker.BASE, "sample_size": 8}
  (unet / "config.json").write_text(json.dumps(fields))
  cfg = import_weights.diffusers_unet.unet_config(fields)
  save_file(
    if_nets.diffusers_state(cfg), unet / "diffusion_pytorch_model.safetensors"
  )
  weights = tmp_path / "weights"
  import_weights.main(
    [
      "--from=diffusers-unet",
      f"--src={unet}",
      f"--out={weights}",
      "--skip_parity",
    ]
  )
  flags = [f"--weights={weights}", f"--text_encoder={encoder}", "--steps=2"]
  flags += ["--config=configs/if_m.py", "--task=text_to_image"]
  sample.main([*flags, "--prompt=a tiger", f"--out={tmp_path / 'out'}"])
  with Image.open(tmp_path / "out" / "a-tiger-0.png") as image:
    assert image.size == (8, 8)
  sidecar = json.loads((tmp_path / "out" / "a-tiger-0.json").read_text())
  assert sidecar["config"]["sampler"]["guidance"] == 7.0
  assert sidecar["config"]["model"] == json.loads(
    json.dumps(to_dict(from_dict(folder.load_config(weights)))["model"])
  )


def test_lower_case_is_what_if_reads(encoder):
  plain = encoders.text_encoder(config(encoder))
  lower = encoders.text_encoder(config(encoder, lower_case=True))
  wanted, _ = plain.encode(["a red fox"])
  np.testing.assert_array_equal(lower.encode([" A Red Fox "])[0], wanted)
  assert np.abs(plain.encode(["A Red Fox"])[0] - wanted).max() > 0.01


def test_a_bert_with_heads_is_a_bert(tmp_path):
  write(tmp_path / "b", "bert", BERT, bert.bert_config, bert.RULES)
  file = tmp_path / "b" / "model.safetensors"
  state = load_file(file)
  headed = {f"bert.{k}": v for k, v in state.items()}
  headed["cls.predictions.bias"] = np.zeros(3, np.float32)
  target = abstract_params(encoder_module("bert", bert.bert_config(BERT)))
  bare = import_weights.plan(state, bert.rules(state), target)
  same = import_weights.plan(headed, bert.rules(headed), target)
  for path, leaf in bare.items():
    np.testing.assert_array_equal(np.asarray(same[path]), np.asarray(leaf))


def test_features_beyond_float16_are_refused(source, tmp_path):
  file = source / "model.safetensors"
  state = load_file(file)
  state["encoder.final_layer_norm.weight"] *= 1e6
  save_file(state, file)
  ours = run("t5", source, tmp_path / "large")
  with pytest.raises(UserError, match="within float16's 65504"):
    encoders._saved_encoder(config(ours).text, None).encode(["a cat"])


def test_store_holds_what_the_encoder_says(tmp_path, encoder):
  prompts = tmp_path / "prompts.txt"
  prompts.write_text("\n".join(PROMPTS[:2]))
  values = to_dict(config(encoder, batch_size=2))
  out = tmp_path / "store"
  assert embed_text.embed(from_dict(values), PROMPTS[:2], out) == 3
  store = TextStore(out)
  live = encoders.text_encoder(config(encoder))
  for wanted, stored in zip(
    live.encode(PROMPTS), store.encode(PROMPTS), strict=True
  ):
    # Rows of another batch may be rounded otherwise: half a float16's step.
    np.testing.assert_allclose(stored, wanted, rtol=2e-3, atol=1e-4)
  for wanted, stored in zip(live.empty, store.empty, strict=True):
    np.testing.assert_allclose(stored, wanted, rtol=2e-3, atol=1e-4)
  read = encoders.text_encoder(config("nowhere", store=str(out)))
  assert isinstance(read, TextStore)
  with pytest.raises(UserError, match="caption 'a cat' is not in text store"):
    read.encode(["a cat"])
  with pytest.raises(UserError, match="max_tokens=9, the config has 10"):
    encoders.text_encoder(config("nowhere", store=str(out), max_tokens=10))
  with pytest.raises(UserError, match="exists and is not empty"):
    embed_text.embed(from_dict(values), PROMPTS, out)
  with pytest.raises(UserError, match="cannot read text store"):
    TextStore(tmp_path)


@pytest.mark.filterwarnings("ignore")  # transformers' own
@pytest.mark.parametrize("kind", ["t5", "bert"])
def test_parity_is_measured_where_transformers_is_installed(
  tmp_path, source, tokenizer_file, kind
):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  if kind == "bert":
    source = tmp_path / "b"
    write(source, "bert", BERT, bert.bert_config, bert.RULES)
    shutil.copy(tokenizer_file, source / "tokenizer.json")
  ours = run(kind, source, tmp_path / "w")
  line = import_weights.parity_line(f"hf-{kind}", source, ours)
  assert float(line.split()[3]) < 1e-4
