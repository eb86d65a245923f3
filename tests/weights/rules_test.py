# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.weights.lazy import LazyTensor
from lumiere_jax.weights.rules import (
  CONV2D,
  IDENTITY,
  LINEAR,
  Ignore,
  Rule,
  apply_rules,
  invert,
  plan,
)

RULES = (
  Rule("layer.{i}.{p:query|key}.weight", "layer_{i}/{p}/kernel", LINEAR),
  Rule("layer.{i}.{p:query|key}.bias", "layer_{i}/{p}/bias"),
  Rule("stem.weight", "stem/kernel", CONV2D),
  Ignore("step", "a counter"),
)


def _source():
  random = np.random.default_rng(0)
  shapes = {"stem.weight": (4, 3, 1, 2), "step": ()}
  for i in (0, 11):
    for part in ("query", "key"):
      shapes[f"layer.{i}.{part}.weight"] = (5, 2)
      shapes[f"layer.{i}.{part}.bias"] = (5,)
  return {
    key: random.normal(size=shape).astype(np.float32)
    for key, shape in shapes.items()
  }


def _target(dtype=np.float32):
  part = {"kernel": np.zeros((2, 5), dtype), "bias": np.zeros(5, dtype)}
  layer = {"query": part, "key": part}
  tree = {"layer_0": layer, "layer_11": layer}
  tree["stem"] = {"kernel": np.zeros((1, 2, 3, 4), dtype)}
  return jax.eval_shape(lambda: tree)


def test_every_tensor_lands_in_its_place():
  source = _source()
  tree = apply_rules(source, RULES, _target())
  assert trees.diff(_target(), tree) == ""
  np.testing.assert_array_equal(
    tree["layer_11"]["key"]["kernel"], source["layer.11.key.weight"].T
  )
  np.testing.assert_array_equal(
    tree["layer_0"]["query"]["bias"], source["layer.0.query.bias"]
  )
  for o, i, h, w in np.ndindex(4, 3, 1, 2):
    assert (
      tree["stem"]["kernel"][h, w, i, o] == source["stem.weight"][o, i, h, w]
    )


def test_values_take_the_type_of_the_target():
  tree = apply_rules(_source(), RULES, _target(np.float16))
  assert {x.dtype for x in jax.tree.leaves(tree)} == {np.dtype(np.float16)}


def test_table_read_backwards_gives_the_source():
  source = _source()
  tree = trees.flatten(apply_rules(source, RULES, _target()))
  kept = {key: value for key, value in source.items() if key != "step"}
  back = apply_rules(tree, invert(RULES), kept)
  assert trees.fingerprint(back) == trees.fingerprint(kept)


@pytest.mark.parametrize("transform", [IDENTITY, LINEAR, CONV2D])
def test_transform_is_inverted_bit_by_bit(transform):
  rank = {"linear": 2, "conv2d": 4}.get(transform.name, 3)
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)[:rank])
  back = transform.backward(transform.forward(x))
  np.testing.assert_array_equal(back, x)
  inverse = transform.inverse()
  np.testing.assert_array_equal(inverse.forward(inverse.backward(x)), x)


def _failure(source, rules=RULES, target=None) -> list[str]:
  with pytest.raises(UserError) as error:
    plan(source, rules, target or _target())
  lines = str(error.value).splitlines()
  assert lines[0] == "the weights do not fit the model"
  return lines[1:]


def test_source_without_rule_raises():
  extra = {"z.bias": np.zeros(1), "layer.x.key.bias": np.zeros(5)}
  assert _failure(_source() | extra) == [
    "matched by no rule (2):",
    "  layer.x.key.bias",
    "  z.bias",
  ]


def test_source_with_two_rules_raises():
  rules = (*RULES, Ignore("s{rest:.*}", "too wide"))
  assert _failure(_source(), rules) == [
    "matched by several rules (2):",
    "  stem.weight",
    "  step",
    "not filled (1):",
    "  stem/kernel",
  ]


def test_unfilled_target_raises():
  source = _source()
  del source["layer.0.key.bias"], source["stem.weight"]
  assert _failure(source) == [
    "not filled (2):",
    "  layer_0/key/bias",
    "  stem/kernel",
  ]


def test_target_filled_twice_raises():
  rules = (*RULES, Rule("root.weight", "stem/kernel"))
  source = _source() | {"root.weight": np.zeros((1, 2, 3, 4))}
  assert _failure(source, rules) == [
    "filled more than once (1):",
    "  stem/kernel <- stem.weight <- root.weight",
  ]


def test_unknown_target_raises():
  source = _source() | {"layer.7.key.bias": np.zeros(5)}
  assert _failure(source) == [
    "no such target (1):",
    "  layer_7/key/bias <- layer.7.key.bias",
  ]


def test_wrong_shapes_raise():
  source = _source() | {
    "stem.weight": np.zeros((4, 3)),  # CONV2D does not apply to it
    "layer.0.key.weight": np.zeros((2, 5)),
  }
  assert _failure(source) == [
    "wrong shape (2):",
    "  layer_0/key/kernel (2, 5) <- layer.0.key.weight (2, 5) (linear)",
    "  stem/kernel (1, 2, 3, 4) <- stem.weight (4, 3) (conv2d)",
  ]


def test_nothing_is_read_before_all_is_checked_then_one_at_a_time():
  reads = []

  def lazy(key, value):
    def read():
      reads.append(key)
      return value

    return LazyTensor(shape=value.shape, dtype=value.dtype, read=read)

  source = {key: lazy(key, value) for key, value in _source().items()}
  leaves = plan(source, RULES, _target())
  assert reads == []
  np.asarray(leaves["layer_11/query/bias"])
  assert reads == ["layer.11.query.bias"]
  apply_rules(source, RULES, _target())
  assert len(reads) == 1 + len(source) - 1


def test_rule_whose_sides_differ_in_fields_is_refused():
  with pytest.raises(ValueError, match="differ in fields"):
    Rule("layer.{i}.bias", "layer/bias")


def test_field_that_returns_repeats_its_text():
  rule = Rule("{i}.{i}", "{i}")
  assert rule.path("3.3") == "3"
  assert rule.path("3.4") is None


def test_text_outside_fields_is_literal():
  rule = Rule("a.{i}.b", "{i}")
  assert rule.path("a.1.b") == "1"
  assert rule.path("ax1.b") is None
  assert rule.path("a.1xb") is None
