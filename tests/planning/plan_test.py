# SPDX-License-Identifier: Apache-2.0
"""What a plan says of devices that are here."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from lumiere_jax import build, sharding, trees
from lumiere_jax.config import (
  ConditionConfig,
  MeshConfig,
  SamplerConfig,
  WindowsConfig,
  to_dict,
)
from lumiere_jax.errors import UserError
from lumiere_jax.planning import Task, as_dict, as_text, make_plan
from lumiere_jax.planning.account import take_account
from lumiere_jax.profiling.memory import StateMemory, state_memory
from lumiere_jax.profiling.topology import find_topology, prepare
from lumiere_jax.stage import make_stage
from lumiere_jax.weights import folder
from tests.profiling import steps
from tests.profiling.marks import needs_gpu_compiler, needs_libtpu

CLIP = steps.config("clip", num_frames=8)
EMPTY = np.zeros((1, 5, 24), np.float16), np.zeros((1, 5), np.bool_)


def with_(cfg, **parts):
  """A config with fields of its parts replaced."""
  changed = {
    name: replace(getattr(cfg, name), **fields)
    for name, fields in parts.items()
  }
  return replace(cfg, **changed)


def plan(cfg, what="train", name="local", clips=0):
  prepare(name)
  return make_plan(Task(cfg, what, clips), find_topology(name))


@pytest.fixture(scope="module")
def on_one():
  """A training step on one device."""
  return plan(CLIP)


def test_a_training_step_is_counted_twice_and_agrees(on_one):
  assert on_one.agreement == pytest.approx(1.0, abs=0.01)
  # Nothing is computed twice.
  assert on_one.account.model == on_one.account.nominal
  assert on_one.account.as_compiled < on_one.account.nominal
  assert on_one.account.steps == on_one.account.equivalent_steps == 1


def test_memory_is_that_of_the_state_and_more(on_one):
  parts = build.trainable(CLIP, build.abstract_params(CLIP.model))
  trained, frozen = (4 * trees.count(part) for part in parts)
  state = on_one.state
  assert state.frozen == frozen
  assert state.parameters == state.ema == trained
  assert 2 * trained < state.optimizer < 2 * trained + 100
  # The batch: clips of 8 frames, features in half precision.
  pixels, text = 2 * 8 * 16 * 16 * 3, 2 * 5 * (24 * 2 + 1)
  assert on_one.inputs == pixels + text
  rest = on_one.memory.arguments - state.total - on_one.inputs
  assert 0 < rest < 100  # Votes and counts.
  assert on_one.peak > on_one.memory.arguments


@pytest.mark.full
@pytest.mark.devices(8)
def test_devices_share_memory_and_work():
  cfg = with_(CLIP, train=dict(batch_size=8), mesh=dict(fsdp=2, frames=2))
  found = plan(cfg)
  assert found.mesh == MeshConfig(data=2, fsdp=2, frames=2)
  assert found.clips == 8
  one = sharding.make_mesh(devices=jax.devices()[:1])
  whole = state_memory(make_stage(cfg, EMPTY, one).like)
  for name in ("frozen", "parameters", "ema", "optimizer"):
    share = getattr(found.state, name) / getattr(whole, name)
    assert 0.5 <= share < 0.6, name
  assert found.agreement == pytest.approx(1.0, abs=0.002)
  kinds = {c.kind for c in found.program.collectives}
  assert {"all-reduce", "all-gather", "collective-permute"} <= kinds


@pytest.mark.devices(8)
def test_levels_that_devices_cannot_share_are_counted_on_each():
  found = plan(with_(CLIP, mesh=dict(frames=8)), "sample")
  assert found.agreement == pytest.approx(1.0, abs=0.002)
  once = take_account(found.task, found.clips)
  assert found.account.as_compiled > 4 * once.as_compiled
  assert found.account.model == once.model


@pytest.mark.parametrize(
  ("fields", "equivalent", "evaluations"),
  [
    (dict(guidance=1.0), 10, 10),
    (dict(guidance=3.0), 10, 20),
    (dict(guidance=3.0, guidance_interval=(0.0, 0.45)), 7.5, 15),
  ],
)
def test_sampling_is_counted_by_its_dearest_step(
  fields, equivalent, evaluations
):
  sampler = SamplerConfig(name="ddim", steps=10, spacing="leading", **fields)
  account, single = (
    take_account(Task(replace(CLIP, sampler=s), "sample"), clips)
    for s, clips in ((sampler, 2), (replace(sampler, guidance=1.0), 1))
  )
  assert account.steps == 10
  assert account.equivalent_steps == equivalent
  assert account.evaluations == evaluations
  assert account.nominal / single.nominal == 2 * evaluations / equivalent


@pytest.fixture(scope="module")
def worse(tmp_path_factory):
  """A guide of a single level, and the folder of its weights."""
  one = {"block_out_channels": (16,), "attention": (True,)}
  cfg = with_(CLIP, model=one)
  path = tmp_path_factory.mktemp("weights") / "worse"
  like = build.abstract_params(cfg.model)
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
  folder.save(path, params, to_dict(cfg), "licence")
  return cfg, dict(guide=str(path), guide_scale=1.5)


SOME = dict(guidance=3.0, guidance_interval=(0.0, 0.45))


@pytest.mark.parametrize(
  ("fields", "guide_calls"),
  [(dict(guidance=3.0), 10), (dict(guidance=1.0), 10), (SOME, 5)],
)
def test_a_guide_is_counted(worse, fields, guide_calls):
  sampler = SamplerConfig(name="ddim", steps=10, spacing="leading", **fields)
  both, network, guide = (
    take_account(
      Task(replace(cfg, sampler=replace(sampler, **more)), "sample"), 2
    )
    for cfg, more in (
      (CLIP, worse[1]),
      (CLIP, {}),
      (worse[0], dict(guidance=1.0, steps=1)),
    )
  )
  assert both.steps == 10
  assert both.evaluations == network.evaluations + guide_calls
  whole = network.nominal * network.equivalent_steps
  whole += guide.nominal * guide_calls
  assert both.nominal * both.equivalent_steps == pytest.approx(whole)


def test_a_guide_is_in_the_program_and_in_memory(worse):
  sampler = SamplerConfig(**SOME, **worse[1])
  found = plan(replace(CLIP, sampler=sampler), "sample", clips=2)
  assert found.agreement == pytest.approx(1.0, abs=0.002)
  counts = (
    trees.count(build.abstract_params(cfg.model)) for cfg in (CLIP, worse[0])
  )
  assert found.state.frozen == 4 * sum(counts)


def test_sampling_has_parameters_and_nothing_that_trains():
  sampler = SamplerConfig(guidance=3.0, guidance_interval=(0.0, 0.45))
  found = plan(replace(CLIP, sampler=sampler), "sample", clips=2)
  assert found.clips == 2
  assert found.agreement == pytest.approx(1.0, abs=0.02)
  params = trees.count(build.abstract_params(CLIP.model)) * 4
  assert found.state == StateMemory(
    parameters=0, frozen=params, ema=0, optimizer=0
  )


def test_images_are_planned_too():
  image = plan(steps.config("image"), "sample")
  assert not image.task.is_clip
  assert as_dict(image, [])["frames"] == 1
  assert f"of {image.clips} images of 16 px" in as_text(image)
  assert image.agreement == pytest.approx(1.0, abs=0.02)


def test_super_resolution_in_windows():
  cfg = replace(
    steps.config("low_res", num_frames=8),
    condition=ConditionConfig(kind="low_res", scale=4),
    sampler=SamplerConfig(steps=4, guidance=1.0),
    windows=WindowsConfig(frames=4, overlap=2),
  )
  found = plan(cfg, "sample")
  assert found.task.frames == 4
  assert found.agreement == pytest.approx(1.0, abs=0.02)
  assert found.program.unknown_loops == 1  # That over denoising steps.
  whole = Task(replace(cfg, windows=WindowsConfig()), "sample")
  # Three windows of 4 frames for 8.
  ratio = found.account.nominal / take_account(whole, 1).nominal
  assert ratio == pytest.approx(1.5, rel=0.01)


def test_what_is_not_known_is_said(on_one):
  found = as_dict(on_one)
  assert found["roofline"] is None and found["fits"] is None
  text = as_text(on_one)
  assert "roofline: n/a" in text
  assert f"takes {on_one.peak / 2**20:.2f} MiB" in text
  assert json.loads(json.dumps(found)) == found
  assert found["memory"]["parameters"] == on_one.state.parameters
  assert found["flops"]["compiled_over_analytic"] == on_one.agreement


def test_a_mesh_that_devices_cannot_share():
  with pytest.raises(UserError, match=r"mesh.fsdp=2 .* do not share out 1"):
    plan(with_(CLIP, mesh=dict(fsdp=2)))


@pytest.mark.devices(4)
def test_clips_are_a_multiple_of_the_shares():
  with pytest.raises(UserError, match=r"--clips=3 .* = 4 devices"):
    plan(CLIP, "sample", clips=3)


@needs_libtpu
def test_a_tpu_s_memory_and_time(undone):
  cfg = with_(
    steps.config("one_level"),
    train=dict(batch_size=32),
    mesh=dict(fsdp=2),
  )
  found = plan(cfg, name="v5e:2x2")
  assert found.fits is True
  assert found.agreement == pytest.approx(1.0, abs=0.1)
  line = found.roofline
  assert line.seconds == max(line.compute, line.memory, line.interconnect)
  assert found.clips_per_second == pytest.approx(32 / line.seconds)
  assert 0 < found.utilization < 1
  text = as_text(found)
  assert "fits: " in text and f"bound by {line.binding}" in text


@needs_libtpu
def test_what_is_offloaded_lies_in_the_host_s_memory(undone):
  cfg = with_(
    steps.config("clip", size_px=32, num_frames=4),
    model=dict(dtype="bfloat16"),
    train=dict(batch_size=16),
  )
  kept, offloaded = (
    plan(with_(cfg, model=dict(remat=remat)), name="v5e:2x2")
    for remat in ("convs", "offload")
  )
  assert kept.memory.host == 0 < offloaded.memory.host
  assert kept.program.multiplied == offloaded.program.multiplied


@needs_libtpu
def test_slices_are_the_outer_part_of_data(undone):
  cfg = with_(
    steps.config("one_level"),
    model=dict(block_out_channels=(128,)),  # Of less, a TPU sends padding too.
    train=dict(batch_size=16),
    mesh=dict(fsdp=4),
  )
  found = plan(cfg, name="v5e:2x2*2")
  assert (found.mesh.data, found.mesh.fsdp, found.mesh.slices) == (2, 4, 2)
  far = [c for c in as_dict(found)["collectives"] if c["between_islands"]]
  assert far and {c["kind"] for c in far} == {"all-reduce"}
  # Gradients of what a device holds cross the network, nothing else does.
  assert sum(c["bytes"] for c in far) < 1.2 * found.state.parameters + 1000
  assert found.roofline.network > 0


@needs_gpu_compiler
def test_gpus_tell_their_memory(undone):
  found = plan(with_(CLIP, train=dict(batch_size=8)), name="h100:2x2")
  assert found.fits is True
  assert found.roofline.network > 0
  assert found.agreement == pytest.approx(1.0, abs=0.1)


def test_a_network_that_is_given_part_of_the_clip():
  cfg = steps.config("masked")
  assert plan(cfg, "sample").agreement == pytest.approx(1.0, abs=0.02)
  trained = take_account(Task(cfg, "train"), 2)
  assert trained.model < trained.nominal  # Blocks are computed twice.
