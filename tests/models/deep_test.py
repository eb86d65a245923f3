# SPDX-License-Identifier: Apache-2.0
"""The network without its deep levels, whose feature it is given."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build, trees
from lumiere_jax.models.deep import deep_shape
from lumiere_jax.models.stunet import STUNet
from lumiere_jax.profiling.network import Call, count_network
from lumiere_jax.profiling.work import forward_flops
from tests.models import nets

THREE = dataclasses.replace(
  nets.IMAGE,
  block_out_channels=(8, 8, 16),
  attention=(False, True, True),
  layers_per_block=(1, 2, 1),
  patch_size=2,
)
NETS = {
  "image": (nets.IMAGE, (2,)),
  "video": (nets.inflated(nets.IMAGE, conditioned=True), (2, 8)),
  "three_levels": (nets.inflated(THREE), (1, 8)),
  "same_frames": (nets.inflated(THREE, resample=False), (1, 8)),
}
CASES = [
  (name, level)
  for name, (cfg, _) in NETS.items()
  for level in range(1, cfg.num_levels)
]


@functools.cache
def apply(cfg, level):
  net = STUNet(cfg)

  @jax.jit
  def run(params, args, deep=None):
    return net.apply({"params": params}, *args, deep_level=level, deep=deep)

  return run


@pytest.mark.parametrize(("name", "level"), CASES)
def test_its_own_feature_makes_the_same_output(name, level):
  cfg, lead = NETS[name]
  params, args = nets.randomised(cfg), nets.inputs(cfg, *lead, w=8)
  want = nets.apply(cfg)(params, *args)
  output, deep = apply(cfg, level)(params, args)
  np.testing.assert_allclose(output, want, rtol=1e-5, atol=1e-5)
  shape = deep_shape(cfg, args[0].shape[1:], level)
  assert deep.shape == (lead[0], *shape.shape) and deep.dtype == shape.dtype
  again, same = apply(cfg, level)(params, args, deep)
  np.testing.assert_allclose(again, want, rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(same, deep)
  other, _ = apply(cfg, level)(params, args, deep + 1.0)
  assert np.abs(other - want).max() > 1e-3


@pytest.mark.parametrize(("name", "level"), CASES)
def test_only_the_fine_levels_run(name, level):
  """Parameters that would make nonsense are not read."""
  cfg, lead = NETS[name]
  params, args = nets.randomised(cfg), nets.inputs(cfg, *lead, w=8)
  output, deep = apply(cfg, level)(params, args)

  def is_deep(path):
    block, _, inside = path.partition("/")
    number = int(block.rpartition("_")[2]) if block[:3] in ("dow", "up_") else 0
    lost = block == f"down_{level - 1}" and "downsample" in inside
    return block == "mid" or number >= level or lost

  fine, spoilt = trees.split(params, lambda path: not is_deep(path))
  assert trees.count(spoilt) > 0
  spoilt = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), spoilt)
  params = trees.merge(fine, spoilt)
  again, _ = apply(cfg, level)(params, args, deep)
  np.testing.assert_allclose(again, output, rtol=1e-5, atol=1e-5)
  assert np.isnan(apply(cfg, level)(params, args)[0]).all()


def test_the_dropped_levels_cost_nothing():
  cfg, lead = NETS["video"]
  params, args = build.abstract_params(cfg), nets.inputs(cfg, *lead, w=8)
  _, deep = jax.eval_shape(apply(cfg, 1), params, args)

  def flops(*deep):
    compiled = apply(cfg, 1).lower(params, args, *deep).compile()
    return compiled.cost_analysis()["flops"]

  call = Call(batch=lead[0], frames=lead[1], height=8, width=8, tokens=5)
  layers = count_network(cfg, call).layers
  coarse = forward_flops(layer for layer in layers if layer.level == 1)
  saved = 1.0 - flops(deep) / flops()
  # The compiler counts what is no multiplication too.
  assert 0.85 * coarse / forward_flops(layers) < saved < 0.9


def test_parameters_are_those_of_the_whole_network():
  cfg = NETS["video"][0]
  init = functools.partial(STUNet(cfg).init, deep_level=1)
  tree = jax.eval_shape(init, jax.random.key(0), *build.network_inputs(cfg))
  assert not trees.diff(build.abstract_params(cfg), tree["params"])


def test_half_precision_features_keep_their_type():
  cfg = dataclasses.replace(NETS["video"][0], dtype="bfloat16")
  params, args = build.abstract_params(cfg), nets.inputs(cfg, 1, 8)
  output, deep = jax.eval_shape(apply(cfg, 1), params, args)
  assert deep.dtype == deep_shape(cfg, (8, 8, 4, 3), 1).dtype == jnp.bfloat16
  assert output.dtype == jnp.float32


@pytest.mark.parametrize(
  ("level", "deep"), [(-1, False), (2, False), (0, True)]
)
def test_a_level_that_is_none_is_refused(level, deep):
  cfg = NETS["image"][0]
  params, args = build.abstract_params(cfg), nets.inputs(cfg, 1)
  with pytest.raises(ValueError, match=f"deep_level={level} of 2 levels"):
    jax.eval_shape(apply(cfg, level), params, args, *[jnp.zeros((1, 8))] * deep)
