# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from lumiere_jax.text.cache import CachedEncoder
from lumiere_jax.text.encoder import TextEncoder
from lumiere_jax.text.tokenizer import Tokenizer

CAPTIONS = ["a dog", "dog spins", "cat"]


class Counted:
  """A stand-in for the network: looks tokens up, and counts its calls."""

  def __init__(self):
    self.calls = 0

  def __call__(self, params, ids, mask):
    jax.debug.callback(self._count)
    return params[ids] * mask[..., None]

  def _count(self):
    self.calls += 1


@pytest.fixture
def make(tmp_path, tokenizer_file):
  def make(info="a"):
    counted = Counted()
    table = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    tokenizer = Tokenizer(tokenizer_file, max_tokens=5)
    encoder = TextEncoder(counted, table, tokenizer, batch_size=2)
    cached = CachedEncoder(encoder, tmp_path / "text", {"weights": info})
    return cached, encoder, counted

  return make


def test_a_second_run_encodes_nothing(make):
  cached, encoder, counted = make()
  cached.prepare(CAPTIONS)
  jax.effects_barrier()
  assert counted.calls
  again, _, counted = make()
  again.prepare(CAPTIONS)
  features, mask = again.encode(CAPTIONS[::-1])
  jax.effects_barrier()
  assert not counted.calls
  wanted = encoder.encode(CAPTIONS[::-1])
  np.testing.assert_array_equal(features, wanted[0])
  np.testing.assert_array_equal(mask, wanted[1])
  assert features.dtype == np.float16


def test_other_captions_are_encoded_as_they_come(make):
  cached, encoder, _ = make()
  cached.prepare(CAPTIONS)
  mixed = ["cat spins", CAPTIONS[0]]
  for one, other in zip(
    cached.encode(mixed), encoder.encode(mixed), strict=True
  ):
    np.testing.assert_array_equal(one, other)
  np.testing.assert_array_equal(cached.empty[0], encoder.empty[0])


@pytest.mark.parametrize("change", ["encoder", "captions"])
def test_another_encoder_or_caption_has_a_store_of_its_own(
  make, change, tmp_path
):
  make()[0].prepare(CAPTIONS)
  cached, _, counted = make("b" if change == "encoder" else "a")
  cached.prepare([*CAPTIONS, "a cat"] if change == "captions" else CAPTIONS)
  jax.effects_barrier()
  assert counted.calls
  assert len(list((tmp_path / "text").glob("*/*"))) == 2


def test_too_many_captions_are_not_stored(make, tmp_path):
  cached, encoder, _ = make()
  encoder.capacity = 2
  cached.prepare(CAPTIONS)
  assert not (tmp_path / "text").exists()


def test_nothing_half_written_stays(make, tmp_path, monkeypatch):
  cached, encoder, _ = make()

  def fail(captions):
    raise KeyboardInterrupt

  monkeypatch.setattr(encoder, "encode", fail)
  with pytest.raises(KeyboardInterrupt):
    cached.prepare(CAPTIONS)
  assert not list((tmp_path / "text").glob("*/*"))


def test_captions_of_an_earlier_store_are_not_encoded_again(make):
  make()[0].prepare(CAPTIONS)
  cached, encoder, counted = make()
  more = [*CAPTIONS, "a cat", "a dog spins"]
  cached.prepare(more)
  jax.effects_barrier()
  assert counted.calls == 1  # A batch of the two new ones.
  np.testing.assert_array_equal(cached.encode(more)[0], encoder.encode(more)[0])
