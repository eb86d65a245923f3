# SPDX-License-Identifier: Apache-2.0
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import sharding
from lumiere_jax.checkpoint import Checkpointer
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
  checkpointer = Checkpointer(tmp_path, CONFIG, "data-1", keep=2)
  checkpointer.save(5, arrays(1), {"counter": Counter(7)})
  checkpointer.close()
  return tmp_path


def restore(
  folder, config=CONFIG, fingerprint="data-1", *, counter=None, allow=False
):
  counter = counter or Counter()
  checkpointer = Checkpointer(
    folder, config, fingerprint, keep=2, allow_changes=allow
  )
  try:
    return checkpointer.restore(arrays(0), {"counter": counter}), counter
  finally:
    checkpointer.close()


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


def test_without_checkpoint_the_state_is_the_one_given(tmp_path):
  state, counter = restore(tmp_path)
  assert counter.count == 0
  np.testing.assert_array_equal(state["a"], arrays(0)["a"])


@pytest.mark.parametrize(
  ("config", "fingerprint", "message"),
  [
    (change(learning_rate=0.2), "data-1", "train.learning_rate=0.1, now 0.2"),
    (
      CONFIG | {"model": {"block_out_channels": (8, 32)}},
      "data-1",
      r"model.block_out_channels=\[8, 16\], now \[8, 32\]",
    ),
    (change(clip_norm=1.0), "data-1", "train.clip_norm=None, now 1.0"),
    (CONFIG, "data-2", "data 'data-1', now 'data-2'"),
  ],
)
def test_other_maths_or_data_are_refused(folder, config, fingerprint, message):
  counter = Counter(3)
  with pytest.raises(UserError, match=message):
    restore(folder, config, fingerprint, counter=counter)
  assert counter.count == 3


def test_an_override_allows_them(folder):
  _, counter = restore(folder, change(learning_rate=0.2), "data-2", allow=True)
  assert counter.count == 7


def test_length_and_logging_of_a_run_may_change(folder):
  config = change(steps=20, log_every=5) | {"sampler": {"steps": 3}}
  assert restore(folder, config)[1].count == 7


def test_newest_checkpoints_are_kept(folder):
  checkpointer = Checkpointer(folder, CONFIG, "data-1", keep=2)
  for step in (6, 7, 8):
    checkpointer.save(step, arrays(step), {"counter": Counter(step)})
  checkpointer.close()
  assert sorted(p.name for p in folder.iterdir()) == ["7", "8"]
  state, counter = restore(folder)
  assert counter.count == state["b"]["n"] == 8


def test_saved_arrays_may_be_donated_at_once(tmp_path):
  """Writing goes on in the background, from a copy."""
  tree = {"a": jnp.zeros(1 << 20)}
  add = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)
  checkpointer = Checkpointer(tmp_path, {}, "", keep=1)
  checkpointer.save(1, tree, {})
  tree = add(add(tree))
  restored = checkpointer.restore(tree, {})
  checkpointer.close()
  np.testing.assert_array_equal(restored["a"], 0)


@pytest.mark.devices(4)
def test_restored_arrays_lie_where_the_given_ones_do(folder):
  mesh = sharding.make_mesh()
  by_data = sharding.batch_sharding(mesh)
  state = arrays(0)
  state["b"]["half"] = jax.device_put(state["b"]["half"], by_data)
  checkpointer = Checkpointer(folder, CONFIG, "data-1", keep=2)
  state = checkpointer.restore(state, {"counter": Counter()})
  checkpointer.close()
  assert state["b"]["half"].sharding == by_data
  np.testing.assert_array_equal(state["b"]["half"], 1)


def test_orbax_is_silent_and_absl_is_not(tmp_path, capfd, caplog):
  caplog.set_level(logging.DEBUG, logger="absl")
  checkpointer = Checkpointer(tmp_path, CONFIG, "", keep=1)
  for step in (1, 2):
    checkpointer.save(step, arrays(1), {})
  checkpointer.restore(arrays(0), {})
  checkpointer.close()
  logging.getLogger("absl").info("ours")
  assert [r.getMessage() for r in caplog.records] == ["ours"]
  assert capfd.readouterr() == ("", "")
