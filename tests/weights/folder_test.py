# SPDX-License-Identifier: Apache-2.0
import json
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder as weights_folder
from lumiere_jax.weights.folder import load, resolve, save
from lumiere_jax.weights.lazy import LazyTensor, open_safetensors

CONFIG = {"name": "small", "model": {"widths": [32, 64], "temporal": None}}


def _params():
  keys = iter(jax.random.split(jax.random.key(0), 4))
  return {
    "conv": {
      "kernel": jax.random.normal(next(keys), (3, 3, 8, 16)),
      "bias": jax.random.normal(next(keys), (16,)),
    },
    "mid": {"kernel": jax.random.normal(next(keys), (40, 50))},
    "count": jnp.arange(3),
    "scale": jnp.float32(2.5),
  }


@pytest.mark.parametrize("dtype", [None, "float32", "float16", "bfloat16"])
def test_round_trip_is_bit_exact(tmp_path, dtype):
  params = _params()
  info = save(tmp_path / "w", params, CONFIG, "MIT, by us", dtype=dtype)
  loaded, config, read = load(tmp_path / "w")
  expected = jax.tree.map(
    lambda x: (
      x.astype(dtype or x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
    ),
    params,
  )
  # The fingerprint is over paths, shapes, types and bits.
  assert trees.fingerprint(loaded) == trees.fingerprint(expected)
  assert loaded["mid"]["kernel"].dtype == (dtype or "float32")
  assert loaded["count"].dtype == jnp.int32
  assert loaded["scale"].shape == ()
  assert config == CONFIG
  assert read == info
  assert info.num_params == trees.count(params)
  assert info.fingerprint == trees.fingerprint(expected)
  assert (tmp_path / "w" / "LICENSE").read_text() == "MIT, by us"


def test_bfloat16_parameters_keep_their_type(tmp_path):
  params = {"a": jnp.arange(7, dtype=jnp.bfloat16) / 3}
  save(tmp_path / "w", params, CONFIG, "")
  assert trees.fingerprint(load(tmp_path / "w")[0]) == trees.fingerprint(params)


def test_layout_of_memory_does_not_matter(tmp_path):
  params = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3).T}
  save(tmp_path / "w", params, CONFIG, "")
  np.testing.assert_array_equal(load(tmp_path / "w")[0]["a"], params["a"])


def test_shards_keep_to_their_size_and_the_index_names_all(tmp_path):
  params = {f"p{i}": np.full((125_000,), i, np.float32) for i in range(7)}
  save(tmp_path / "w", params, CONFIG, "", shard_mb=1)
  files = sorted(p.name for p in (tmp_path / "w").glob("*.safetensors"))
  assert files == [f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)]
  index = json.loads(
    (tmp_path / "w" / "model.safetensors.index.json").read_text()
  )["weight_map"]
  for name in files:
    tensors = load_file(tmp_path / "w" / name)
    assert sum(x.nbytes for x in tensors.values()) <= 10**6
    assert sorted(tensors) == sorted(k for k, v in index.items() if v == name)
  loaded, _, _ = load(tmp_path / "w")
  assert trees.fingerprint(loaded) == trees.fingerprint(params)


def test_tensor_larger_than_a_shard_has_its_own(tmp_path):
  params = {"a": np.zeros(2), "b": np.zeros(400_000), "c": np.zeros(2)}
  save(tmp_path / "w", params, CONFIG, "", shard_mb=1)
  assert len(list((tmp_path / "w").glob("*.safetensors"))) == 3
  assert trees.diff(params, load(tmp_path / "w")[0]) == ""


def test_lazy_parameters_are_read_one_shard_at_a_time(tmp_path):
  events = []

  def lazy(name):
    def read():
      written = tmp_path.glob(".w.*/weights/*.safetensors")
      events.append((name, len(list(written))))
      return np.zeros(250_000, np.float32)

    dtype = np.dtype(np.float32)
    return LazyTensor(shape=(250_000,), dtype=dtype, read=read)

  params = {name: lazy(name) for name in "abc"}
  save(tmp_path / "w", params, CONFIG, "", shard_mb=1)
  assert events == [("a", 0), ("b", 1), ("c", 2)]


def test_half_precision_halves_the_file(tmp_path):
  for dtype in ("float32", "float16"):
    save(tmp_path / dtype, {"a": np.ones(10**5)}, CONFIG, "", dtype=dtype)
  sizes = [
    sum(p.stat().st_size for p in (tmp_path / d).glob("*.safetensors"))
    for d in ("float32", "float16")
  ]
  assert 1.99 < sizes[0] / sizes[1] < 2.01


def test_value_beyond_half_precision_is_named(tmp_path):
  params = {"a": {"b": np.array([1.0, 7e4], np.float32)}}
  with pytest.raises(UserError, match=r"a/b has .*too large.*float16"):
    save(tmp_path / "w", params, CONFIG, "", dtype="float16")
  save(tmp_path / "w", params, CONFIG, "", dtype="bfloat16")


def test_files_are_as_readable_as_any_other(tmp_path):
  (tmp_path / "other").write_text("")
  save(tmp_path / "w", _params(), CONFIG, "")
  modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "w").iterdir()}
  assert modes == {stat.S_IMODE((tmp_path / "other").stat().st_mode)}


def test_failure_leaves_nothing_behind(tmp_path):
  def read():
    raise OSError("disk on fire")

  broken = LazyTensor(shape=(2,), dtype=np.dtype(np.float32), read=read)
  with pytest.raises(OSError, match="disk on fire"):
    save(tmp_path / "w", {"a": np.zeros(2), "b": broken}, CONFIG, "")
  assert list(tmp_path.iterdir()) == []


def test_existing_folder_is_refused_unless_empty(tmp_path):
  folder = tmp_path / "deep" / "w"
  folder.mkdir(parents=True)
  save(folder, _params(), CONFIG, "")
  before = sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir())
  with pytest.raises(UserError, match="w exists and is not empty"):
    save(folder, _params(), {}, "")
  assert sorted((p, p.stat().st_mtime_ns) for p in folder.iterdir()) == before
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="file exists"):
    save(tmp_path / "file", _params(), CONFIG, "")


def test_unknown_type_is_refused(tmp_path):
  with pytest.raises(UserError, match=r"'float17' .did you mean 'float16'"):
    save(tmp_path / "w", _params(), CONFIG, "", dtype="float17")


def _file(folder):
  return folder / "model-00001-of-00001.safetensors"


def test_changed_value_is_detected(tmp_path):
  save(tmp_path / "w", _params(), CONFIG, "")
  data = bytearray(_file(tmp_path / "w").read_bytes())
  data[-1] ^= 1
  _file(tmp_path / "w").write_bytes(data)
  with pytest.raises(UserError, match="changed after they were saved"):
    load(tmp_path / "w")


def test_renamed_tensor_is_detected(tmp_path):
  save(tmp_path / "w", _params(), CONFIG, "")
  tensors = load_file(_file(tmp_path / "w"))
  tensors["mid/weight"] = tensors.pop("mid/kernel")
  save_file(tensors, _file(tmp_path / "w"))
  with pytest.raises(UserError, match="changed after they were saved"):
    load(tmp_path / "w")


@pytest.mark.parametrize(
  "name",
  [
    "config.json",
    "info.json",
    "model.safetensors.index.json",
    "model-00001-of-00001.safetensors",
  ],
)
def test_missing_or_broken_file_is_named(tmp_path, name):
  save(tmp_path / "w", _params(), CONFIG, "")
  for breaking in (lambda p: p.write_text("[]"), lambda p: p.unlink()):
    breaking(tmp_path / "w" / name)
    with pytest.raises(UserError, match=f"cannot read.*{name}") as error:
      load(tmp_path / "w")
    assert "\n" not in str(error.value)


def test_single_foreign_file_opens(tmp_path):
  save_file({"a.b": np.arange(3, dtype=np.int64)}, tmp_path / "f.safetensors")
  with open_safetensors(tmp_path / "f.safetensors") as tensors:
    assert tensors["a.b"].shape == (3,)
    assert tensors["a.b"].dtype == np.int64
    np.testing.assert_array_equal(np.asarray(tensors["a.b"]), np.arange(3))


@pytest.fixture
def assets(tmp_path, monkeypatch):
  monkeypatch.setattr(weights_folder, "ASSETS", tmp_path / "assets")
  for name in ("demo", "demo_wide"):
    save(tmp_path / "assets" / name, _params(), CONFIG, "")
  (tmp_path / "assets" / "prompts").mkdir()
  return tmp_path / "assets"


def test_names_and_paths_resolve(assets, tmp_path, monkeypatch):
  assert resolve("demo") == assets / "demo"
  save(tmp_path / "mine", _params(), CONFIG, "")
  assert resolve(str(tmp_path / "mine")) == tmp_path / "mine"
  monkeypatch.chdir(tmp_path)
  assert load(resolve("mine"))[1] == CONFIG


@pytest.mark.parametrize("name", ["dema", "prompts", "some/folder", ""])
def test_missing_weights_name_the_shipped_ones(assets, name, monkeypatch):
  monkeypatch.chdir(assets / "demo")  # "" is not the current folder
  with pytest.raises(UserError) as error:
    resolve(name)
  message = str(error.value)
  assert repr(name) in message
  assert message.endswith("choices: demo, demo_wide")
  assert "\n" not in message
