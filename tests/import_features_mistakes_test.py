# SPDX-License-Identifier: Apache-2.0
"""Files that are no feature network: a line says so, and nothing is left."""

import json
import os
import pickle

import pytest

from lumiere_jax.errors import UserError
from tests.features import parity_test as nets
from tests.import_features_test import run, videomae

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def i3d():
  """Its tensors as torch names them."""
  return nets.torch_i3d(torch).state_dict()


class Code:
  """Whose pickle runs a command where it is loaded carelessly."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


def with_code(path, state):
  torch.save({**state, "more": Code(path.parent / "run")}, path)


def pickled_code(path, state):
  path.write_bytes(pickle.dumps(Code(path.parent / "run"), protocol=2))


def halved(path, state):
  torch.save(state, path)
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])


WRONG = {
  "of another network": (
    lambda path, state: torch.save({"fc.weight": torch.zeros(3)}, path),
    "no tensor of a layer Conv3d_1a_7x7; an I3D with the names of pytorch-i3d "
    "was expected, as rgb_imagenet.pt or i3d_pretrained_400.pt",
  ),
  "with code": (with_code, "pickles more than tensors, of which nothing"),
  "code alone": (pickled_code, "pickles more than tensors, of which nothing"),
  "halved": (halved, "cannot read weights .*failed finding central directory"),
  "of text": (
    lambda path, state: path.write_text("rgb_imagenet\n"),
    "cannot read weights .*it is damaged, or no file of torch",
  ),
  "empty": (
    lambda path, state: path.write_bytes(b""),
    "cannot read weights .*it is damaged, or no file of torch",
  ),
  "a list": (
    lambda path, state: torch.save([torch.zeros(2)], path),
    "it holds a list, not tensors by name",
  ),
  "a number": (
    lambda path, state: torch.save({**state, "epoch": 3}, path),
    "'epoch' is no tensor",
  ),
  "a folder": (
    lambda path, state: path.mkdir(),
    "is no file; that with the weights of i3d was expected",
  ),
  "nowhere": (lambda path, state: None, "is no file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_told_in_a_line(tmp_path, i3d, name):
  write, message = WRONG[name]
  source = tmp_path / "i3d.pt"
  write(source, i3d)
  before = set(tmp_path.iterdir())
  with pytest.raises(UserError, match=message) as told:
    run("i3d", source, tmp_path / "above" / "ours")
  assert "\n" not in str(told.value) and "i3d.pt" in str(told.value)
  assert set(tmp_path.iterdir()) == before  # Nothing written, nothing run.


@pytest.mark.parametrize("kind", ["efficientnet-lite0", "c3d", "transnetv2"])
def test_the_file_of_another_network_is_told_in_a_line(tmp_path, i3d, kind):
  source = tmp_path / "rgb_imagenet.pt"
  torch.save(i3d, source)
  with pytest.raises(UserError, match=r"rgb_imagenet\.pt: no") as told:
    run(kind, source, tmp_path / "ours")
  assert "\n" not in str(told.value)
  assert list(tmp_path.iterdir()) == [source]


def test_missing_tensors_are_listed(tmp_path, i3d):
  state = dict(i3d)
  del state["logits.conv3d.bias"]
  source = tmp_path / "short.pt"
  torch.save(state, source)
  with pytest.raises(UserError, match=r"not filled \(1\):\n  logits/bias"):
    run("i3d", source, tmp_path / "ours")
  assert [path.name for path in tmp_path.iterdir()] == ["short.pt"]


def test_a_wrong_folder_is_told_in_a_line(tmp_path):
  model = tmp_path / "model"
  videomae().save_pretrained(model)

  def told(kind, message):
    with pytest.raises(UserError, match=message) as error:
      run(kind, model, tmp_path / "ours")
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}

  told("hf-clip", "config.json: model_type='videomae' is not 'clip'")
  config = json.loads((model / "config.json").read_text())
  (model / "config.json").write_text(
    json.dumps({**config, "hidden_act": "relu"})
  )
  told("hf-videomae", "config.json: hidden_act='relu' must be 'gelu'")
  (model / "config.json").write_text(json.dumps(config))
  processor = model / "preprocessor_config.json"
  processor.write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
  told("hf-videomae", r"image_mean=\[0.5, 0.5, 0.5\] must be \[0.485, ")
  processor.unlink()
  file = model / "model.safetensors"
  file.write_bytes(file.read_bytes()[:1000])
  told("hf-videomae", "cannot read weights .*model.safetensors")
  file.unlink()
  told("hf-videomae", "no weights in")
  (model / "config.json").unlink()
  told("hf-videomae", "cannot read .*config.json")
  told("i3d", "is no file; that with the weights of i3d was expected")
