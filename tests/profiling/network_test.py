# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import pytest

from lumiere_jax import build, cli, trees
from lumiere_jax.config import from_dict
from lumiere_jax.errors import UserError
from lumiere_jax.linked import weights_config
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.profiling import network as networks
from lumiere_jax.profiling.network import Call, count_network
from lumiere_jax.profiling.program import compiler_flops, read_program
from lumiere_jax.profiling.work import AS_XLA, forward_flops
from tests import scripts
from tests.profiling import steps

CONFIGS = scripts.model_configs()
CALL = Call(batch=2, frames=4, height=16, width=8, tokens=5)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_parameters_are_those_of_the_real_tree(path):
  """Path by path, each with its shape: so their number is too."""
  values = cli.read_config(str(path))
  if values.get("weights"):
    values = weights_config(values["weights"], values)
  config = from_dict(values)
  real = trees.flatten(build.abstract_params(config.model))
  network = count_network(config.model, steps.call_of(config))
  assert network.params == {path: leaf.shape for path, leaf in real.items()}


@pytest.mark.parametrize("name", ["image", "masked"])
def test_a_call_is_what_the_compiler_makes_of_it(name):
  cfg = steps.NETWORKS[name]
  call = replace(CALL, frames=2 if cfg.temporal else 1)
  compiled = steps.network_call(cfg, call).compile()
  want = read_program(compiled)
  layers = count_network(cfg, call).layers
  assert forward_flops(layers, AS_XLA) == pytest.approx(
    want.multiplied, rel=0.01
  )
  assert want.flops == pytest.approx(compiler_flops(compiled), rel=0.01)


def test_a_call_of_a_wide_network_is_what_xla_counts_in_all():
  """Where matrices are wide, what is not a product matters little."""
  cfg = replace(
    steps.IMAGE,
    block_out_channels=(64, 128),
    attention_head_dim=64,
    cross_attention_dim=128,
  )
  call = Call(batch=1, frames=1, height=16, width=16, tokens=steps.TOKENS)
  compiled = steps.network_call(cfg, call).compile()
  layers = count_network(cfg, call).layers
  counted = forward_flops(layers, AS_XLA)
  assert counted == pytest.approx(compiler_flops(compiled), rel=0.1)


def test_work_grows_with_the_batch_and_padding_only_adds():
  for cfg in steps.NETWORKS.values():
    call = CALL if cfg.temporal else replace(CALL, frames=1)
    one = count_network(cfg, call).layers
    two = count_network(cfg, replace(call, batch=4)).layers
    # Frame numbers are embedded once for all clips.
    extra = sum(x.flops for x in one if "temporal_frame" in x.path)
    assert forward_flops(two) == 2 * forward_flops(one) - extra
    assert 0.5 < forward_flops(one, AS_XLA) / forward_flops(one) < 1


def test_a_convolution_by_hand():
  """3 of 9 taps fall outside at an edge, 5 at a corner."""
  layers = count_network(steps.IMAGE, replace(CALL, frames=1)).layers
  (first,) = [x for x in layers if x.path == "conv_in"]
  assert first.flops == 2 * 2 * 16 * 8 * 9 * 3 * 16
  inner, edges, corners = 14 * 6, 2 * 14 + 2 * 6, 4
  taps = 9 * inner + 6 * edges + 4 * corners
  assert first.inside == pytest.approx(taps / (9 * 16 * 8))


def test_frames_attend_to_frames_and_pixels_to_pixels():
  """Twice as many of them: four times the products."""

  def products(call, kind, name):
    layers = count_network(steps.CLIP, call).layers
    found = [x.flops for x in layers if x.kind == kind and name in x.path]
    assert found
    return sum(found)

  longer, wider = replace(CALL, frames=8), replace(CALL, width=16)
  temporal = (networks.TEMPORAL_ATTENTION, "logits_")
  assert products(longer, *temporal) == 4 * products(CALL, *temporal)
  assert products(wider, *temporal) == 2 * products(CALL, *temporal)
  spatial = (networks.ATTENTION, "/mix")
  assert products(longer, *spatial) == 2 * products(CALL, *spatial)
  assert products(wider, *spatial) == 4 * products(CALL, *spatial)


def test_gradients_stop_where_nothing_before_trains():
  network = count_network(steps.CLIP, CALL, is_temporal)
  by_path = {layer.path: layer for layer in network.layers}
  for layer in network.layers:
    assert layer.weights == (layer.op != "product" and is_temporal(layer.path))
  assert by_path["down_0/resnet_0/conv2"].inputs == 0
  # The norm in front of it trains.
  assert by_path["down_0/temporal_conv_0/spatial"].inputs == 1
  assert by_path["down_0/downsample/conv1"].inputs == 1
  assert by_path["text_proj"].inputs == 0
  # Text is frozen: of its products with the image only the image's is wanted.
  assert by_path["mid/attention_0/text_logits"].inputs == 1
  assert by_path["mid/attention_0/logits"].inputs == 2
  count = sum(math.prod(s) for p, s in network.params.items() if is_temporal(p))
  assert network.trained == count > 0


def test_every_level_and_kind_is_told():
  cfg = steps.NETWORKS["told_each_frame"]
  layers = count_network(cfg, CALL).layers
  assert {layer.kind for layer in layers} == set(networks.KINDS)
  assert {layer.level for layer in layers} == {None, 0, 1}
  paths = [layer.path for layer in layers]
  assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(
  ("field", "size"), [("height", 3), ("width", 0), ("frames", 1)]
)
def test_sizes_that_do_not_fit_are_told(field, size):
  with pytest.raises(UserError, match=f"{field}={size} is not a multiple of 2"):
    count_network(steps.CLIP, replace(CALL, **{field: size}))
