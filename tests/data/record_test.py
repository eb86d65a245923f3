# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow_datasets as tfds

from lumiere_jax.data import loader, record
from lumiere_jax.errors import UserError


def _field(number: int, payload: bytes) -> bytes:
  assert len(payload) < 128
  return bytes([number << 3 | 2, len(payload)]) + payload


def _example(features: dict[str, bytes]) -> bytes:
  entries = b"".join(
    _field(1, _field(1, name.encode()) + _field(2, feature))
    for name, feature in features.items()
  )
  return _field(1, entries)


def test_parses_the_wire_format_of_tensorflow_examples():
  data = _example(
    {
      "caption": _field(1, _field(1, "a façade".encode())),
      "phase": _field(3, _field(1, bytes([0xAC, 0x02]))),  # packed 300
      "empty": _field(1, _field(1, b"")),
    }
  )
  assert record.parse(data) == {
    "caption": "a façade".encode(),
    "phase": 300,
    "empty": b"",
  }


def test_other_bytes_are_refused():
  with pytest.raises(UserError, match=r"tf\.train\.Example"):
    record.parse(b"\xff\xff\xff")


def test_agrees_with_tensorflow_datasets(tiny):
  builder = tfds.builder_from_directory(str(loader.dataset_folder(tiny)))
  source = builder.as_data_source(split="held_out")
  for theirs, ours in zip(
    source, loader.read_clips(tiny, "held_out"), strict=True
  ):
    assert (theirs["video"] == ours.video).all()
    assert theirs["caption"].decode() == ours.caption
    assert theirs["movement"].decode() == ours.movement
    assert int(theirs["phase"]) == ours.phase
