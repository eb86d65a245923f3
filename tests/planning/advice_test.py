# SPDX-License-Identifier: Apache-2.0
"""What is tried when a task does not fit."""

from dataclasses import dataclass, replace

import pytest

from lumiere_jax.config import MeshConfig
from lumiere_jax.planning import Plan, Task, advice, find_fit
from lumiere_jax.planning.account import Account
from lumiere_jax.profiling.hardware import find_chip
from lumiere_jax.profiling.memory import NOT_TOLD, StateMemory
from lumiere_jax.profiling.program import Program
from lumiere_jax.profiling.topology import Topology
from tests.planning.plan_test import plan, with_
from tests.profiling import steps
from tests.profiling.marks import needs_libtpu

CLIP = with_(
  steps.config("clip", num_frames=8),
  train=dict(batch_size=32),
  mesh=dict(fsdp=2),
)
KEEP_LESS = [
  {"model.remat": "convs"},
  {"model.remat": "offload"},
  {"model.remat": "blocks"},
]


@dataclass(frozen=True)
class Device:
  platform: str = "tpu"


@pytest.fixture
def tried(monkeypatch):
  """Finds what is tried until `fits` of the changed config."""

  def find(task, fits, platform="tpu", tries=20, slices=1):
    chip = find_chip("v5e")
    topology = Topology("some", (Device(platform),) * 8, platform, chip, 8)

    def compiled(task, topology):
      memory = replace(NOT_TOLD, peak=1)
      return Plan(
        task=task,
        topology=topology,
        mesh=MeshConfig(data=8, slices=slices),
        clips=32,
        state=StateMemory(parameters=0, frozen=0, ema=0, optimizer=0),
        inputs=0,
        memory=memory,
        needed=None if fits(task.cfg) else 2**60,
        account=Account(1.0, 1.0, 1.0, 1, 1, 1.0),
        program=Program(0, 0, 0, (), 0),
        compiler_flops=None,
        seconds=0.0,
      )

    monkeypatch.setattr(advice, "make_plan", compiled)
    return find_fit(compiled(task, topology), tries)

  return find


def steps_of(found):
  """What each try changed, beside what those before it had."""
  before = {}
  for one in found:
    yield {k: v for k, v in one.changes.items() if before.get(k) != v}
    before = one.changes


def test_remat_comes_first_then_fsdp_then_parts_of_the_batch(tried):
  found = tried(Task(CLIP, "train"), lambda cfg: False)
  assert list(steps_of(found)) == [
    *KEEP_LESS,
    {"mesh.fsdp": 4},
    {"mesh.fsdp": 8},
    {"train.accumulate": 2},
    {"train.accumulate": 4},
    {"mesh.fsdp": 4, "mesh.frames": 2},
    {"mesh.fsdp": 2, "mesh.frames": 4},
    {"mesh.fsdp": 1, "mesh.frames": 8},
  ]
  cfg = found[-1].plan.task.cfg
  assert cfg.model.remat == "blocks" and cfg.train.accumulate == 4
  assert cfg.mesh == MeshConfig(fsdp=1, frames=8)
  assert found[4].flags == ("--config.model.remat=blocks --config.mesh.fsdp=8")


def test_it_ends_with_what_fits(tried):
  found = tried(Task(CLIP, "train"), lambda cfg: cfg.mesh.fsdp == 4)
  assert len(found) == 4 and found[-1].plan.fits
  assert len(tried(Task(CLIP, "train"), lambda cfg: False, tries=2)) == 2


def test_what_is_set_already_is_not_tried_again(tried):
  cfg = with_(
    CLIP,
    model=dict(remat="blocks"),
    mesh=dict(data=1, fsdp=8),
    train=dict(accumulate=4),
  )
  found = tried(Task(cfg, "train"), lambda cfg: False)
  assert list(steps_of(found)) == [
    {"mesh.data": 0, "mesh.fsdp": 4, "mesh.frames": 2},
    {"mesh.fsdp": 2, "mesh.frames": 4},
    {"mesh.fsdp": 1, "mesh.frames": 8},
  ]


def test_sampling_has_state_and_clips_to_split(tried):
  found = tried(Task(CLIP, "sample"), lambda cfg: False)
  assert list(steps_of(found)) == [
    {"mesh.fsdp": 4},
    {"mesh.fsdp": 8},
    {"mesh.fsdp": 4, "mesh.frames": 2},
    {"mesh.fsdp": 2, "mesh.frames": 4},
    {"mesh.fsdp": 1, "mesh.frames": 8},
  ]


def test_a_slice_keeps_its_state_together(tried):
  found = tried(Task(CLIP, "sample"), lambda cfg: False, slices=2)
  assert all(f.changes["mesh.fsdp"] <= 4 for f in found)
  inner = [f.plan.task.cfg.mesh for f in found]
  assert max(m.fsdp * m.frames for m in inner) == 4


def test_cpus_have_nothing_to_offload_to(tried):
  found = tried(Task(CLIP, "train"), lambda cfg: False, platform="cpu")
  assert list(steps_of(found))[:2] == [KEEP_LESS[0], KEEP_LESS[2]]


def test_images_have_no_frames_to_split(tried):
  cfg = replace(steps.config("image"), train=replace(CLIP.train, stage="image"))
  found = tried(Task(cfg, "train"), lambda cfg: False)
  assert all("mesh.frames" not in f.changes for f in found)


@needs_libtpu
def test_a_step_too_large_for_a_tpu_is_made_to_fit(undone):
  """So many clips that devices of 16 GB cannot keep the maps of one step."""
  cfg = with_(
    steps.config("one_level", size_px=64, num_frames=8),
    train=dict(batch_size=512),
  )
  first = plan(cfg, name="v5e:2x2")
  assert first.fits is False and first.needed > first.limit
  assert first.program is first.roofline is first.agreement is None
  found = find_fit(first, 6)
  assert found[-1].plan.fits is True
  assert all(one.plan.fits is False for one in found[:-1])
  assert found[-1].plan.peak < found[-1].plan.limit
