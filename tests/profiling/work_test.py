# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import jax
import pytest

from lumiere_jax.config import SamplerConfig
from lumiere_jax.config.network import REMAT
from lumiere_jax.diffusion.sampler import sampling_timesteps
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.errors import UserError
from lumiere_jax.profiling import topology
from lumiere_jax.profiling.network import Call, count_network
from lumiere_jax.profiling.program import read_lowered, read_program
from lumiere_jax.profiling.work import (
  AS_XLA,
  NOMINAL,
  Calls,
  forward_flops,
  sample_flops,
  sampling_calls,
  train_flops,
)
from tests.profiling import steps
from tests.profiling.marks import needs_libtpu

# "one_level" is for the compiler.
OTHERS = sorted(steps.NETWORKS.keys() - {"image", "masked", "one_level"})
CALL = Call(batch=2, frames=4, height=16, width=16, tokens=5)


@pytest.mark.parametrize(
  "name",
  [
    "image",
    "masked",
    *(pytest.param(n, marks=pytest.mark.full) for n in OTHERS),
  ],
)
def test_a_training_step_is_what_its_program_does(name):
  cfg = steps.config(name)
  network, lowered = steps.train_step(cfg)
  flops = train_flops(network, cfg.model.remat, AS_XLA)
  want = read_lowered(lowered).multiplied
  assert flops.multiplied == pytest.approx(want, rel=0.001)


@pytest.mark.full
def test_a_training_step_is_what_the_compiler_makes_of_it():
  cfg = steps.config("one_level", size_px=8)
  network, lowered = steps.train_step(cfg)
  # Machine code is not what this is about, and takes most of the time.
  compiled = lowered.compile({"xla_backend_optimization_level": "0"})
  want = read_program(compiled).multiplied
  flops = train_flops(network, "none", AS_XLA)
  assert flops.multiplied == pytest.approx(want, rel=0.1)


@needs_libtpu
def test_a_tpu_multiplies_as_much(undone):
  """With a batch as real ones are: a few images it would cut in pieces."""
  topology.prepare("v5e:2x2")
  device = topology.find_topology("v5e:2x2").devices[0]
  cfg = steps.config("one_level")
  cfg = replace(cfg, train=replace(cfg.train, batch_size=16))
  network, lowered = steps.train_step(cfg, device)
  want = read_program(lowered.compile()).multiplied
  flops = train_flops(network, "none", AS_XLA)
  assert flops.multiplied == pytest.approx(want, rel=0.1)
  here = jax.sharding.SingleDeviceSharding(device)
  call = replace(CALL, batch=4, frames=8)
  lowered = steps.network_call(steps.CLIP, call, here)
  want = read_program(lowered.compile()).multiplied
  layers = count_network(steps.CLIP, call).layers
  counted = forward_flops(layers, AS_XLA)
  assert counted == pytest.approx(want, rel=0.1)


def test_all_gradients_cost_twice_the_forward_pass():
  """Less what the inputs would have had, which are not differentiated."""
  network = count_network(steps.IMAGE, replace(CALL, frames=1), lambda p: True)
  flops = train_flops(network)
  assert flops.forward == forward_flops(network.layers)
  products = sum(x.flops for x in network.layers if x.op == "product")
  assert flops.weight_gradients == flops.forward - products
  # The input's, the text's (in both poolings and projections) and the times'.
  begin = sum(x.flops for x in network.layers if not x.inputs)
  assert flops.input_gradients == flops.forward - begin + products
  assert 0 < begin < 0.1 * flops.forward
  assert flops.update == 32 * network.trained
  assert flops.total == flops.multiplied + flops.update


def test_policies_make_anew_what_they_do_not_keep():
  network = count_network(steps.CLIP, CALL, lambda path: True)
  flops = {p: train_flops(network, p) for p in REMAT}
  anew = {p: f.recomputed for p, f in flops.items()}
  assert anew["none"] == 0 < anew["convs"] == anew["offload"] < anew["blocks"]
  assert anew["blocks"] < flops["blocks"].forward
  with pytest.raises(UserError, match=r"'blok'.*did you mean 'blocks'"):
    train_flops(network, "blok")


def test_what_counts():
  network = count_network(steps.IMAGE, replace(CALL, frames=1), lambda p: True)
  nominal, compiled = (
    train_flops(network, "none", c) for c in (NOMINAL, AS_XLA)
  )
  assert compiled.forward < nominal.forward
  assert compiled.input_gradients < nominal.input_gradients
  assert compiled.weight_gradients < nominal.weight_gradients
  assert compiled.update == nominal.update


@pytest.mark.parametrize(
  ("fields", "double", "single", "guide"),
  [
    ({}, 10, 0, 0),
    (dict(guidance=1.0), 0, 10, 0),
    (dict(guidance_interval=(0.0, 0.45)), 5, 5, 0),
    (dict(guidance_interval=(0.3, 0.6)), 4, 6, 0),
    (dict(guidance_interval=(0.3, 0.6), guidance=1.0), 0, 10, 0),
    (dict(guidance_interval=(0.0, 0.45), guidance_every=2), 3, 7, 0),
    (dict(guidance=1.0, guidance_every=2), 0, 10, 0),
    (dict(guide="a", guide_scale=1.0), 10, 0, 0),
    (dict(guide="a", guide_scale=2.0), 10, 0, 10),
    (dict(guide="a", guide_scale=2.0, guidance=1.0), 0, 10, 10),
    (
      dict(guide="a", guide_scale=2.0, guidance_interval=(0.3, 0.6)),
      4,
      6,
      4,
    ),
  ],
)
def test_calls_of_sampling(fields, double, single, guide):
  cfg = SamplerConfig(name="ddim", steps=10, spacing="leading", **fields)
  schedule = make_schedule(steps.config("clip").diffusion.schedule)
  timesteps = sampling_timesteps(schedule, cfg)
  calls = sampling_calls(cfg, timesteps, schedule.num_timesteps)
  assert calls == Calls(double, single, guide)
  network = count_network(steps.CLIP, CALL)
  once = forward_flops(network.layers)
  assert sample_flops(network, calls) == once * (2 * double + single)
  assert sample_flops(network, calls, windows=3) == once * calls.clips * 3
  both = sample_flops(network, calls, windows=3, guide=network)
  assert both == once * (calls.clips + guide) * 3
