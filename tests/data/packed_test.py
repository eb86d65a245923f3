# SPDX-License-Identifier: Apache-2.0
"""The packed form: small sprites, captions as tokens, no grain."""

import dataclasses
import importlib.util
import itertools
import json
import shutil

import numpy as np
import pytest

from lumiere_jax.config import DataConfig, TextConfig
from lumiere_jax.data import loader, pack, packed, scenes
from lumiere_jax.data.sprite_source import (
  CAPTIONS,
  ENCODED,
  SpriteSource,
)
from lumiere_jax.errors import UserError
from lumiere_jax.text.encoder import load_minilm
from lumiere_jax.weights.bert import load_bert


@pytest.fixture(scope="module")
def encoder(minilm):
  return load_minilm(TextConfig(batch_size=64), load_bert)


@pytest.fixture(scope="module")
def folder(sprites, encoder, tmp_path_factory):
  """Packed by the program, with fewer captions of each object."""
  few = dict.fromkeys(scenes.SPLITS, 3)
  out = tmp_path_factory.mktemp("packed") / "out"
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(scenes, "PER_OBJECT", few)
    patch.setattr(packed, "load_minilm", lambda *_: encoder)
    packed.main(
      [
        f"--sprites={sprites}",
        f"--out={out}",
        "--names=all",
        "--size=32",
        "--prompt=a ghost",
      ]
    )
  return out


@pytest.fixture
def cfg(folder):
  return DataConfig(
    kind="sprites",
    data_dir=str(folder),
    config="all",
    num_frames=16,
    size_px=16,
  )


@pytest.fixture
def no_grain(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util,
    "find_spec",
    lambda name, *args: None if name == "grain" else find(name, *args),
  )


def test_features_are_those_of_the_whole_encoder(cfg, encoder):
  source = SpriteSource(cfg)
  assert source.text["width"] == encoder.width == 384
  for item in (source[i] for i in range(len(source))):
    for text, caption in (
      (item.text, item.caption),
      (item.image_text, item.image_caption),
    ):
      features, mask = encoder.encode([caption])
      np.testing.assert_array_equal(text.mask, mask[0])
      error = np.abs(text.features - features[0].astype(np.float32))
      assert error[mask[0]].max() < 0.02 * np.abs(features).max()


def test_scenes_are_those_of_the_file_not_drawn_again(cfg, folder):
  about = json.loads((folder / CAPTIONS).read_text())
  source = SpriteSource(cfg)
  assert len(source) == 3 * len(source.infos)
  for captioned, row in zip(source.scenes, about["train"], strict=True):
    assert captioned.scene.object == row[0]
    assert captioned.caption == about["captions"][row[3]]


def test_sprites_are_smaller_and_much_the_same(cfg, folder, sprites):
  for info in pack.read_index(folder):
    small = pack.read_sprite(folder, info).frames
    large = pack.read_sprite(sprites, info).frames
    assert small.shape == (len(large), 32, 32, 4)
    alpha = large[..., 3].astype(float).reshape(-1, 32, 2, 32, 2).mean((2, 4))
    assert np.abs(small[..., 3] - alpha).mean() < 3


@pytest.mark.parametrize("stage", loader.STAGES)
def test_batches_without_grain_depend_on_seed_and_position(
  cfg, stage, no_grain
):
  def take(count, skip=0, **options):
    options = {"batch_size": 4, "seed": 0, **options}
    batches = loader.make_loader(cfg, stage=stage, **options)
    batches.set_state({"batches": skip})
    return list(itertools.islice(batches, count))

  whole = take(6)
  assert set(whole[0]) == {"pixels", "caption", "text", "mask"}
  for one, other in zip(whole[2:], take(4, skip=2), strict=True):
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])
  parts = [take(2, rows=rows) for rows in ([0, 2], [1, 3])]
  for name in ("pixels", "text"):
    np.testing.assert_array_equal(whole[1][name][::2], parts[0][1][name])
    np.testing.assert_array_equal(whole[1][name][1::2], parts[1][1][name])
  assert not np.array_equal(whole[0]["pixels"], take(1, seed=1)[0]["pixels"])
  # Each item comes once in an epoch, in another order in the next one.
  size = len(SpriteSource(cfg))
  epochs = take(2, batch_size=size)
  assert len(set(epochs[0]["caption"])) > size // 2
  if stage == "video":
    first, second = ([*e["caption"]] for e in epochs)
    assert sorted(first) == sorted(second) and first != second


def test_processes_read_the_same_batches(cfg, no_grain):
  alone = loader.make_loader(cfg, stage="image", batch_size=2, seed=0)
  wanted = list(itertools.islice(alone, 3))
  with_workers = dataclasses.replace(cfg, num_workers=1)
  batches = loader.make_loader(
    with_workers, stage="image", batch_size=2, seed=0
  )
  for one, other in zip(wanted, batches, strict=False):
    np.testing.assert_array_equal(one["pixels"], other["pixels"])


def test_what_needs_grain_is_one_line(cfg, no_grain):
  focused = dataclasses.replace(cfg, focus=("spins",))
  with pytest.raises(UserError, match=r"data.focus, need grain"):
    loader.make_loader(focused, stage="image", batch_size=2, seed=0)


@pytest.mark.parametrize(
  ("file", "change", "said"),
  [
    (CAPTIONS, lambda data: data[:-20], "cannot read"),
    (CAPTIONS, lambda data: data.replace(b'"format": 1', b'"format": 9'), "9"),
    (ENCODED, lambda data: data[:1000], "cannot read encoded captions"),
  ],
)
def test_damage_is_one_line(folder, tmp_path, file, change, said):
  damaged = tmp_path / "damaged"
  shutil.copytree(folder, damaged, ignore=shutil.ignore_patterns("*.npy"))
  data = (damaged / file).read_bytes()
  (damaged / file).write_bytes(change(data))
  with pytest.raises(UserError, match=said):
    SpriteSource(
      DataConfig(kind="sprites", data_dir=str(damaged), config="all")
    )
