# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from lumiere_jax import sharding
from lumiere_jax.errors import UserError

MESH = AbstractMesh((4,), ("data",))
TREE = {
  "conv": {"kernel": np.zeros((3, 8)), "bias": np.zeros(8)},
  "norm": {"scale": np.zeros(8)},
}


def test_batch_size_error_names_sizes_that_fit():
  sharding.check_batch_size(24, 3, MESH)
  with pytest.raises(UserError, match=r"batch_size=30 .* 24, 36 or 48"):
    sharding.check_batch_size(30, 3, MESH)
  with pytest.raises(UserError, match=r"batch_size=2 .* 4, 8 or 12"):
    sharding.check_batch_size(2, 1, MESH)


def test_default_rules_replicate_everything():
  shardings = jax.tree.leaves(sharding.shard_tree(TREE, MESH))
  assert len(shardings) == 3
  assert all(s.spec == P() and s.is_fully_replicated for s in shardings)


def test_first_matching_rule_wins():
  rules = ((r"conv/kernel$", P(None, "data")), (r"conv", P("data")), (r"", P()))
  shardings = sharding.shard_tree(TREE, MESH, rules)
  specs = jax.tree.map(lambda s: s.spec, shardings)
  assert specs == {
    "conv": {"kernel": P(None, "data"), "bias": P("data")},
    "norm": {"scale": P()},
  }


def test_leaf_without_rule_is_an_error():
  with pytest.raises(UserError, match="no sharding rule matches 'norm/scale'"):
    sharding.shard_tree(TREE, MESH, ((r"conv", P()),))


def test_rule_that_does_not_fit_the_shape_is_an_error():
  with pytest.raises(UserError, match=r"'kernel' .* 'conv/kernel' .*\(3, 8\)"):
    sharding.shard_tree(TREE, MESH, ((r"kernel", P("data")), (r"", P())))


def test_donating_a_placed_tree_leaves_the_original_whole():
  tree = {"a": jax.numpy.arange(3.0)}
  mesh = sharding.make_mesh(jax.devices()[:1])
  placed = sharding.place_tree(tree, sharding.shard_tree(tree, mesh))
  jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(placed)
  assert placed["a"].is_deleted()
  np.testing.assert_array_equal(tree["a"], [0, 1, 2])


@pytest.mark.devices(4)
def test_batch_is_split_over_the_devices_in_order():
  mesh = sharding.make_mesh()
  batch = sharding.place_batch(
    {"x": np.arange(8), "y": np.ones((8, 2))}, sharding.batch_sharding(mesh)
  )
  parts = [s.data.tolist() for s in batch["x"].addressable_shards]
  assert parts == [[0, 1], [2, 3], [4, 5], [6, 7]]
  assert batch["y"].addressable_shards[0].data.shape == (2, 2)
