# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import trees


def _tree():
  return {
    "block": {"conv": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}},
    "temporal_block": {"conv": {"kernel": np.full((5,), 2.0)}},
    "scale": np.float32(3),
  }


def test_unflatten_inverts_flatten():
  tree = _tree()
  leaves = trees.flatten(tree)
  assert list(leaves) == [
    "block/conv/kernel",
    "block/conv/bias",
    "temporal_block/conv/kernel",
    "scale",
  ]
  assert leaves["scale"] is tree["scale"]
  jax.tree.map(np.testing.assert_array_equal, trees.unflatten(leaves), tree)
  assert trees.unflatten(trees.flatten({})) == {}


@pytest.mark.parametrize(
  "choice", ["^temporal_", lambda path: path.startswith("temporal_")]
)
def test_merge_inverts_split(choice):
  tree = _tree()
  chosen, rest = trees.split(tree, choice)
  assert set(trees.flatten(chosen)) == {"temporal_block/conv/kernel"}
  assert trees.flatten(trees.select(tree, choice)).keys() == (
    trees.flatten(chosen).keys()
  )
  both = trees.merge(rest, chosen)
  assert jax.tree.structure(both) == jax.tree.structure(tree)
  assert trees.fingerprint(both) == trees.fingerprint(tree)


def test_merge_interleaves_subtrees():
  merged = trees.merge({"a": {"x": 1}}, {"a": {"y": {"z": 2}}, "b": 3})
  assert merged == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}


@pytest.mark.parametrize(
  ("base", "extra", "paths"),
  [
    ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3, "x": 4}}, ["a/x", "a/y"]),
    ({"a": 1}, {"a": {"x": 1}}, ["a"]),
    ({"a": {"x": {"y": 1}}}, {"a": {"x": 1}}, ["a/x"]),
  ],
)
def test_merge_refuses_an_overlap(base, extra, paths):
  with pytest.raises(ValueError) as error:
    trees.merge(base, extra)
  assert str(error.value).split()[-len(paths) :] == paths


def test_count_of_abstract_tree():
  assert trees.count(_tree()) == 6 + 2 + 5 + 1
  assert trees.count(jax.eval_shape(_tree)) == 14
  assert trees.count({}) == 0


def test_fingerprint_ignores_order_and_kind_of_array():
  tree = _tree()
  backwards = {key: tree[key] for key in reversed(tree)}
  assert trees.fingerprint(tree) == trees.fingerprint(backwards)
  half = jax.tree.map(lambda x: np.asarray(x, jnp.bfloat16), tree)
  on_device = jax.tree.map(jnp.asarray, half)
  assert trees.fingerprint(half) == trees.fingerprint(on_device)
  kernel = np.arange(6.0).reshape(2, 3)
  assert trees.fingerprint({"a": kernel.T}) == trees.fingerprint(
    {"a": kernel.T.copy()}
  )
  assert trees.fingerprint({"a": kernel[0, ::2]}) == trees.fingerprint(
    {"a": kernel[0, ::2].copy()}
  )


@pytest.mark.parametrize(
  "change",
  [
    {"b": np.zeros((2, 3), np.float32)},
    {"a": np.zeros((3, 2), np.float32)},
    {"a": np.zeros((2, 3), np.int32)},
    {"a": np.full((2, 3), -0.0, np.float32)},
    {"a": np.zeros((2, 3), np.float32), "b": np.zeros(0)},
  ],
)
def test_fingerprint_sees_path_shape_type_and_bits(change):
  tree = {"a": np.zeros((2, 3), np.float32)}
  assert trees.fingerprint(change) != trees.fingerprint(tree)


def test_fingerprint_is_this_one():
  # Sidecars and weights folders hold fingerprints: they must never change.
  tree = {"a": {"b": np.arange(4, dtype=np.float16)}}
  assert trees.fingerprint(tree).startswith("6c6c0ed0f342464b")


def test_diff_lists_both_sides_sorted():
  expected = {"a": np.zeros(2), "b": np.zeros(3), "d": np.zeros(1)}
  actual = {"b": np.zeros(4), "c": np.zeros(5), "d": np.zeros(1)}
  assert trees.diff(expected, actual).split(", ") == [
    "- a (2,)",
    "- b (3,)",
    "+ b (4,)",
    "+ c (5,)",
  ]
  assert trees.diff(expected, jax.eval_shape(lambda: expected)) == ""
