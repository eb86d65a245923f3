# SPDX-License-Identifier: Apache-2.0
import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from lumiere_jax import build, cli, sharding, trees
from lumiere_jax.errors import UserError
from tests import scripts

MESH = AbstractMesh((1, 4, 1), ("data", "fsdp", "frames"))
CONFIGS = scripts.model_configs()
TREE = {
  "conv": {"kernel": np.zeros((3, 8)), "bias": np.zeros(8)},
  "norm": {"scale": np.zeros(8)},
}


@functools.cache
def params(path):
  config = cli.resolve(cli.read_config(str(path)), {})
  return build.abstract_params(config.model)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_rule_matches_something_in_every_config(path):
  names = list(trees.flatten(params(path)))
  for pattern, last in sharding.RULES:
    others = [p for p, _ in sharding.RULES if p != pattern and p]
    mine = [n for n in names if re.search(pattern, n)]
    assert mine, pattern
    if not last:  # What is left to the last rule is left by the others.
      assert [n for n in mine if not any(re.search(p, n) for p in others)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_bytes_of_a_device_fall_as_they_should(path):
  tree = params(path)

  def largest(fsdp):
    mesh = AbstractMesh((1, fsdp, 1), ("data", "fsdp", "frames"))
    shardings = sharding.shard_tree(tree, mesh)
    return sum(
      np.prod(s.shard_shape(leaf.shape))
      for leaf, s in zip(
        jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True
      )
    )

  whole = trees.count(tree)
  assert largest(1) == whole
  # What is not split (biases, scales) is next to nothing.
  for fsdp in (2, 4, 8):
    assert 1 / fsdp <= largest(fsdp) / whole < 1 / fsdp + 0.01


def test_first_matching_rule_wins():
  rules = (
    (r"conv/kernel$", (None, "fsdp")),
    (r"conv", ("fsdp",)),
    (r"", ()),
  )
  shardings = sharding.shard_tree(TREE, MESH, rules)
  specs = jax.tree.map(lambda s: s.spec, shardings)
  assert specs == {
    "conv": {"kernel": P(None, "fsdp"), "bias": P("fsdp")},
    "norm": {"scale": P()},
  }


def test_leaf_without_rule_is_an_error():
  with pytest.raises(UserError, match="no sharding rule matches 'norm/scale'"):
    sharding.shard_tree(TREE, MESH, ((r"conv", ()),))


def test_rule_of_more_dimensions_than_the_leaf_is_an_error():
  rules = ((r"", (None, "fsdp")),)
  with pytest.raises(UserError, match=r"does not fit 'conv/bias' .*\(8,\)"):
    sharding.shard_tree(TREE, MESH, rules)


def test_fsdp_that_does_not_fit_the_shape_is_an_error_with_those_that_do():
  mesh = AbstractMesh((1, 3, 1), ("data", "fsdp", "frames"))
  with pytest.raises(UserError, match=r"'conv/kernel' .*\(3, 8\).* 1, 2, 4, 8"):
    sharding.shard_tree(TREE, mesh)


def test_donating_a_placed_tree_leaves_the_original_whole():
  tree = {"a": jax.numpy.arange(3.0)}
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  placed = sharding.place_tree(tree, sharding.shard_tree(tree, mesh))
  jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(placed)
  assert placed["a"].is_deleted()
  np.testing.assert_array_equal(tree["a"], [0, 1, 2])
