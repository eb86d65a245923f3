# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lumiere_jax import media
from lumiere_jax.errors import UserError
from lumiere_jax.feature_store import FeatureStore

MADE = {"network": "i3d", "guidance_interval": (0.4, 1.0)}
KEYS = ["00000", "Archery/v_1.avi", "Archery/v_1.mp4"]


def features(number):
  return np.random.default_rng(number).normal(size=7).astype(np.float32)


@pytest.fixture
def store(tmp_path):
  """A store with features of all keys."""
  store = FeatureStore(tmp_path / "features", MADE)
  for number, key in enumerate(KEYS):
    store.put(key, features(number))
  return store


def test_features_come_back_bit_by_bit(store):
  again = FeatureStore(store.folder, MADE)
  assert again.get("b") is None
  for number, key in enumerate(KEYS):
    np.testing.assert_array_equal(again.get(key), features(number))
  np.testing.assert_array_equal(again.stacked(KEYS[1:])[1], features(2))
  with pytest.raises(UserError, match="of 1 of 2 clips, the first: b"):
    again.stacked(["b", KEYS[0]])
  with pytest.raises(UserError, match="no features of 0 of 0 clips"):
    again.stacked([])


def test_what_is_kept_is_not_replaced(store):
  store.put(KEYS[0], features(9))
  np.testing.assert_array_equal(store.get(KEYS[0]), features(0))


@pytest.mark.parametrize(
  "spoil",
  [
    lambda data: b"",
    lambda data: data[: len(data) // 2],
    lambda data: data[:-1],
    lambda data: data.replace(data[150:154], bytes(4)),
    lambda data: b"no archive",
  ],
  ids=["empty", "half", "one byte", "other bytes", "text"],
)
def test_damaged_files_are_missing_and_made_anew(store, spoil):
  path = store.folder / f"{KEYS[1]}.npz"
  whole = path.read_bytes()
  path.write_bytes(spoil(whole))
  assert path.read_bytes() != whole
  assert [key for key in KEYS if store.get(key) is None] == [KEYS[1]]
  store.put(KEYS[1], features(1))
  np.testing.assert_array_equal(store.get(KEYS[1]), features(1))


def test_a_stopped_write_leaves_nothing(store, monkeypatch):
  def stopped(file, **arrays):
    file.write(b"half of it")
    raise KeyboardInterrupt

  monkeypatch.setattr(np, "savez", stopped)
  before = sorted(store.folder.rglob("*"))
  with pytest.raises(KeyboardInterrupt):
    store.put("c", features(3))
  assert sorted(store.folder.rglob("*")) == before
  assert store.get("c") is None


def test_whoever_comes_first_keeps_its_features(store, monkeypatch):
  """Another process may have made them meanwhile."""
  savez = np.savez

  def late(file, **arrays):
    monkeypatch.setattr(np, "savez", savez)
    FeatureStore(store.folder, MADE).put("c", features(3))
    savez(file, **arrays)

  monkeypatch.setattr(np, "savez", late)
  store.put("c", features(4))
  np.testing.assert_array_equal(store.get("c"), features(3))


@pytest.mark.parametrize("key", ["", "/a", "../a", "a/../../b"])
def test_keys_stay_in_the_folder(store, key):
  for call in (store.get, lambda key: store.put(key, features(0))):
    with pytest.raises(UserError, match="is no name of a clip"):
      call(key)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"network": "c3d"}, "made with network='i3d', not 'c3d'"),
    ({"seed": 1}, "made with seed=None, not 1"),
    ({"guidance_interval": (0, 1)}, r"=\[0.4, 1.0\], not \[0, 1\]"),
  ],
)
def test_a_folder_is_of_one_thing_only(store, changes, message):
  with pytest.raises(UserError, match=message):
    FeatureStore(store.folder, {**MADE, **changes})
  fewer = {"network": "i3d"}
  with pytest.raises(UserError, match="made with guidance_interval="):
    FeatureStore(store.folder, fewer)
  FeatureStore(store.folder, MADE)


def test_a_damaged_claim_is_told(store):
  (store.folder / "made_with.json").write_text("{")
  with pytest.raises(UserError, match=r"made_with\.json cannot be read"):
    FeatureStore(store.folder, MADE)


def test_two_processes_claim_a_folder_at_once(tmp_path, monkeypatch):
  """The second finds none, and then that of the first."""
  new_file = media.files.new_file

  def late(path):
    monkeypatch.setattr(media.files, "new_file", new_file)
    FeatureStore(tmp_path, MADE)
    return new_file(path)

  monkeypatch.setattr(media.files, "new_file", late)
  FeatureStore(tmp_path, MADE)
  monkeypatch.setattr(media.files, "new_file", late)
  (tmp_path / "made_with.json").unlink()
  with pytest.raises(UserError, match="network='i3d', not 'c3d'"):
    FeatureStore(tmp_path, {**MADE, "network": "c3d"})
