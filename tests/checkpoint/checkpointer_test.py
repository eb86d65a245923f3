# SPDX-License-Identifier: Apache-2.0
import gc
import logging
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import sharding
from lumiere_jax.checkpoint import Checkpointer, Keep
from lumiere_jax.checkpoint.checksum import _checksums, checksums
from lumiere_jax.config import MeshConfig
from lumiere_jax.errors import UserError

CONFIG = {
  "model": {"block_out_channels": (8, 16)},
  "train": {"learning_rate": 0.1, "steps": 10},
}


class Counter:
  def __init__(self, count=0):
    self.count = count

  def get_state(self):
    return {"count": self.count}

  def set_state(self, state):
    self.count = state["count"]


def arrays(value):
  return {
    "a": jnp.full((2, 3), value, jnp.float32) / 3,
    "b": {"half": jnp.full(4, value, jnp.bfloat16), "n": jnp.int32(value)},
  }


@pytest.fixture
def folder(tmp_path):
  """Holds one checkpoint, of step 5 with counter 7."""
  checkpointer = Checkpointer(tmp_path, CONFIG, "data-1", keep=Keep(2))
  checkpointer.save(5, arrays(1), {"counter": Counter(7)})
  checkpointer.close()
  return tmp_path


def restore(
  folder, config=CONFIG, fingerprint="data-1", *, counter=None, allow=False
):
  counter = counter or Counter()
  checkpointer = Checkpointer(
    folder, config, fingerprint, keep=Keep(2), allow_changes=allow
  )
  try:
    return checkpointer.restore(arrays(0), {"counter": counter}), counter
  finally:
    checkpointer.close()


def steps_in(folder):
  return sorted(path.name for path in folder.iterdir())


def change(**train):
  return CONFIG | {"train": CONFIG["train"] | train}


def test_round_trip_is_exact(folder):
  state, counter = restore(folder)
  assert counter.count == 7
  assert jax.tree.structure(state) == jax.tree.structure(arrays(1))
  for got, want in zip(
    jax.tree.leaves(state), jax.tree.leaves(arrays(1)), strict=True
  ):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_without_checkpoint_there_is_nothing_to_restore(tmp_path):
  state, counter = restore(tmp_path)
  assert state is None
  assert counter.count == 0


@pytest.mark.parametrize(
  ("config", "fingerprint", "message"),
  [
    (change(learning_rate=0.2), "data-1", "train.learning_rate=0.1, now 0.2"),
    (
      CONFIG | {"model": {"block_out_channels": (8, 32)}},
      "data-1",
      r"model.block_out_channels=\[8, 16\], now \[8, 32\]",
    ),
    (change(clip_norm=2.0), "data-1", "train.clip_norm=1.0, now 2.0"),
    (CONFIG, "data-2", "data 'data-1', now 'data-2'"),
  ],
)
def test_other_maths_or_data_are_refused(folder, config, fingerprint, message):
  counter = Counter(3)
  with pytest.raises(UserError, match=message):
    restore(folder, config, fingerprint, counter=counter)
  assert counter.count == 3


def test_fields_that_came_later_have_their_defaults(folder):
  """A checkpoint of before goes on under a config that says no other thing."""
  _, counter = restore(folder, change(clip_norm=1.0, optimizer="adamw"))
  assert counter.count == 7


def test_an_override_allows_them(folder):
  _, counter = restore(folder, change(learning_rate=0.2), "data-2", allow=True)
  assert counter.count == 7


def test_length_and_logging_of_a_run_may_change(folder):
  config = change(steps=20, log_every=5) | {"sampler": {"steps": 3}}
  assert restore(folder, config)[1].count == 7


def test_newest_checkpoints_are_kept(folder):
  checkpointer = Checkpointer(folder, CONFIG, "data-1", keep=Keep(2))
  for step in (6, 7, 8):
    checkpointer.save(step, arrays(step), {"counter": Counter(step)})
  checkpointer.close()
  assert steps_in(folder) == ["7", "8"]
  state, counter = restore(folder)
  assert counter.count == state["b"]["n"] == 8


def test_saved_arrays_may_be_donated_at_once(tmp_path):
  """Writing goes on in the background, from a copy."""
  tree = {"a": jnp.zeros(1 << 20)}
  add = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)
  checkpointer = Checkpointer(tmp_path, {}, "", keep=Keep(1))
  checkpointer.save(1, tree, {})
  tree = add(add(tree))
  restored = checkpointer.restore(tree, {})
  checkpointer.close()
  np.testing.assert_array_equal(restored["a"], 0)


@pytest.mark.devices(4)
def test_restored_arrays_lie_where_the_given_ones_do(folder):
  mesh = sharding.make_mesh()
  by_data = sharding.batch_sharding(mesh, 1)
  state = jax.device_put(arrays(0), sharding.replicated(mesh))
  state["b"]["half"] = jax.device_put(state["b"]["half"], by_data)
  checkpointer = Checkpointer(folder, CONFIG, "data-1", keep=Keep(2))
  state = checkpointer.restore(state, {"counter": Counter()})
  checkpointer.close()
  assert state["b"]["half"].sharding == by_data
  np.testing.assert_array_equal(state["b"]["half"], 1)


def test_orbax_is_silent_and_absl_is_not(tmp_path, capfd, caplog):
  caplog.set_level(logging.DEBUG, logger="absl")
  checkpointer = Checkpointer(tmp_path, CONFIG, "", keep=Keep(1))
  for step in (1, 2):
    checkpointer.save(step, arrays(1), {})
  checkpointer.restore(arrays(0), {})
  checkpointer.close()
  logging.getLogger("absl").info("ours")
  assert [r.getMessage() for r in caplog.records] == ["ours"]
  assert capfd.readouterr() == ("", "")


def flip_a_bit(path):
  """Changes one byte inside the largest file, whose length stays."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0x10
  path.write_bytes(data)


def cut(path):
  path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
  "damage", [cut, lambda path: path.unlink(), flip_a_bit]
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage):
  folder = tmp_path / "checkpoints"
  checkpointer = Checkpointer(folder, CONFIG, "data-1", keep=Keep(2))
  for step in (5, 6):
    noise = np.random.default_rng(step).normal(size=(300, 300))
    state = {"x": jnp.asarray(noise, jnp.float32), "n": jnp.int32(step)}
    checkpointer.save(step, state, {"counter": Counter(step)})
  checkpointer.close()
  files = [p for p in (folder / "6" / "arrays").rglob("*") if p.is_file()]
  damage(max(files, key=lambda p: p.stat().st_size))

  checkpointer = Checkpointer(folder, CONFIG, "data-1", keep=Keep(2))
  counter = Counter()
  with pytest.warns(UserWarning, match=r"step 6 is damaged .* lies in") as told:
    got = checkpointer.restore(state, {"counter": counter})
  assert "TensorStore" not in str(told[0].message)
  assert "array index" not in str(told[0].message)
  gc.collect()  # Of readers of other arrays, which tell nothing.
  assert (int(got["n"]), counter.count) == (5, 5)
  assert (tmp_path / "checkpoints.damaged" / "6").is_dir()
  checkpointer.save(6, state, {"counter": Counter(6)})  # its place is free
  assert int(checkpointer.restore(state, {})["n"]) == 6
  checkpointer.close()


def test_a_changed_number_is_noticed():
  """Whatever it is: each counts by its place and its bits."""
  state = {"x": jnp.arange(12.0).reshape(3, 4), "h": jnp.ones(5, jnp.bfloat16)}
  before = checksums(state)
  swapped = state["x"].at[0, 1].set(2.0).at[0, 2].set(1.0)
  for name, value in (
    (
      "x",
      state["x"].at[2, 3].set(np.nextafter(np.float32(11), 12)),
    ),  # The next number.
    ("x", swapped),
    ("x", -state["x"]),
    ("h", state["h"].at[4].set(1.0078125)),
  ):
    after = checksums(state | {name: value})
    changed = [key for key in before if after[key] != before[key]]
    assert changed == [f"['{name}']"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_if_all_are_damaged_nothing_begins_anew(tmp_path):
  checkpointer = Checkpointer(tmp_path / "c", CONFIG, "", keep=Keep(2))
  checkpointer.save(5, arrays(1), {})
  checkpointer.close()
  (tmp_path / "c" / "5" / "host" / "metadata").write_text("{")
  checkpointer = Checkpointer(tmp_path / "c", CONFIG, "", keep=Keep(2))
  with (
    pytest.warns(UserWarning, match="step 5 is damaged"),
    pytest.raises(UserError, match=r"no checkpoint in .* is whole"),
  ):
    checkpointer.restore(arrays(0), {})
  gc.collect()
  checkpointer.close()
  # The same command again comes to the same end.
  checkpointer = Checkpointer(tmp_path / "c", CONFIG, "", keep=Keep(2))
  with pytest.raises(
    UserError, match=r"no checkpoint in .* is whole.* to begin anew"
  ):
    checkpointer.restore(arrays(0), {})
  checkpointer.close()


def test_none_is_removed_where_none_before_it_will_do(tmp_path):
  checkpointer = Checkpointer(tmp_path, CONFIG, "", keep=Keep(3))
  for step in (5, 6, 7):
    checkpointer.save(step, arrays(step), {})
  checkpointer.wait()
  assert checkpointer.restore(arrays(0), {}, latest=4) is None
  assert steps_in(tmp_path) == ["5", "6", "7"]
  restored = checkpointer.restore(arrays(0), {}, latest=6)
  assert int(restored["b"]["n"]) == 6
  checkpointer.wait()
  assert steps_in(tmp_path) == ["5", "6"]
  checkpointer.close()


def test_checksums_are_compiled_once_and_before_they_are_needed(tmp_path):
  state = {"x": jnp.arange(11.0), "h": jnp.ones(3, jnp.bfloat16)}
  checkpointer = Checkpointer(tmp_path, CONFIG, "", keep=Keep(1))
  before = _checksums._cache_size()
  checkpointer.warm_up(state)
  assert _checksums._cache_size() == before + 1
  checkpointer.save(1, jax.tree.map(lambda x: x + 1, state), {})
  checkpointer.close()
  assert _checksums._cache_size() == before + 1


def test_kept_are_the_newest_and_the_best(tmp_path):
  checkpointer = Checkpointer(tmp_path, CONFIG, "", keep=Keep(1, best=2))
  for step, loss in enumerate((3.0, 1.0, 2.0, 4.0, 5.0), 1):
    checkpointer.save(step, arrays(step), {}, loss)
  checkpointer.close()
  assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3", "5"]


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(small_disk):
  folder = small_disk / "checkpoints"
  checkpointer = Checkpointer(folder, CONFIG, "", keep=Keep(2))
  checkpointer.save(5, arrays(1), {})
  checkpointer.wait()
  noise = np.random.default_rng(0).normal(size=1 << 25)
  with pytest.raises(UserError, match=r"cannot .*; the newest .* of step 5"):
    checkpointer.save(6, {"x": jnp.asarray(noise, jnp.float32)}, {})
    checkpointer.wait()
  again = Checkpointer(folder, CONFIG, "", keep=Keep(2))
  restored = again.restore(arrays(0), {})
  np.testing.assert_array_equal(restored["a"], arrays(1)["a"])
  again.close()


def test_a_file_in_the_way_is_one_line(tmp_path):
  (tmp_path / "checkpoints").write_text("")
  with pytest.raises(UserError, match="cannot open the checkpoints in"):
    Checkpointer(tmp_path / "checkpoints", CONFIG, "", keep=Keep(2))


@pytest.mark.devices(8)
def test_a_state_moves_between_topologies_bit_for_bit(tmp_path):
  """8 devices -> 4 -> 1 -> 8, split and whole."""
  rng = np.random.default_rng(0)
  tree = {
    "down": {"kernel": rng.normal(size=(3, 3, 8, 16)).astype(np.float32)},
    "bias": rng.normal(size=16).astype(jnp.bfloat16),
    "count": np.array(7, np.int32),
  }
  sizes = [{"fsdp": 8}, {"fsdp": 2}, {}, {"frames": 8}, {"fsdp": 4}]
  devices = [8, 4, 1, 8, 8]
  for step, (size, count) in enumerate(zip(sizes, devices, strict=True)):
    mesh = sharding.make_mesh(MeshConfig(**size), jax.devices()[:count])
    like = sharding.place_tree(tree, sharding.shard_tree(tree, mesh))
    checkpointer = Checkpointer(tmp_path, CONFIG, "", keep=Keep(1))
    zeros = jax.tree.map(jnp.zeros_like, like)
    state = checkpointer.restore(zeros, {}) if step else like
    for got, want, where in zip(
      *map(jax.tree.leaves, (state, tree, like)), strict=True
    ):
      assert got.sharding == where.sharding
      np.testing.assert_array_equal(got, want)
    checkpointer.save(step + 1, state, {})
    checkpointer.close()


def test_a_full_disk_is_told_by_one_error_alone(small_disk, monkeypatch):
  beside = []
  monkeypatch.setattr(sys, "unraisablehook", beside.append)
  checkpointer = Checkpointer(small_disk / "run", CONFIG, "", keep=Keep(1))
  state = {
    str(i): jax.random.normal(jax.random.key(i), (1 << 18,)) for i in range(90)
  }
  with pytest.raises(UserError, match=r"cannot .*: No space left on device; "):
    checkpointer.save(1, state, {})
    checkpointer.wait()
  assert beside == []
