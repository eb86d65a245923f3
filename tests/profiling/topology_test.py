# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.profiling import topology
from lumiere_jax.profiling.program import compiler_flops, read_program
from lumiere_jax.profiling.topology import LOCAL, find_topology, prepare
from tests.profiling.marks import needs_gpu_compiler, needs_libtpu


def test_local_devices_are_those_that_there_are():
  before = dict(os.environ)
  prepare(LOCAL)
  assert dict(os.environ) == before
  found = find_topology(LOCAL)
  assert found.devices == tuple(jax.devices())
  assert (found.platform, found.chip) == ("cpu", None)
  assert found.island == len(found.devices)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("v5q:4x4", "unknown accelerator 'v5q'.*choices: h100, h200, local, tpu7x"),
    ("", "unknown accelerator ''"),
    ("v5e", "no topology 'v5e'; write v5e:4x4"),
    ("v5e:", "no topology 'v5e:'; write"),
    ("v5e:4by4", "no topology 'v5e:4by4'; write"),
    ("v5e:4x4x4", "a slice of v5e has 2 axes, as v5e:4x4$"),
    ("v5p:4x4", "a slice of v5p has 3 axes, as v5p:4x4x4"),
    ("v5p:4x4x0", "each number must be > 0"),
    ("v6e:8x8*0", "each number must be > 0"),
    ("h100:8x2x2", "GPUs are h100:8 or h100:8x2"),
    ("h100:8*2", "GPUs are h100:8 or h100:8x2"),
  ],
)
def test_names_that_are_none(name, message):
  for function in (prepare, find_topology):
    with pytest.raises(UserError, match=message):
      function(name)


@pytest.mark.parametrize(
  ("name", "what"),
  [("v5e:2x2", r"libtpu.*lumiere_jax\[plan\]"), ("h200:8", r"CUDA.*\[gpu\]")],
)
def test_what_is_missing_is_told_with_its_extra(name, what, monkeypatch):
  monkeypatch.setattr(topology, "_has", lambda module: False)
  for function in (prepare, find_topology):
    with pytest.raises(UserError, match=f"'{name}' needs .*{what}"):
      function(name)


@needs_libtpu
@pytest.mark.parametrize(
  ("name", "devices", "island", "kind"),
  [
    ("v5e:1x1", 1, 1, "v5e"),
    ("v5e:16x16", 256, 256, "v5e"),
    ("v5p:2x2x1", 4, 4, "v5p"),
    ("v4:2x2x1", 4, 4, "v4"),
    ("v6e:8x8*2", 128, 64, "v6e"),
    ("tpu7x:2x2x1", 8, 8, "tpu7x"),
  ],
)
def test_slices_of_tpus(name, devices, island, kind, undone):
  prepare(name)
  found = find_topology(name)
  assert (len(found.devices), found.island) == (devices, island)
  assert (found.platform, found.chip.kind) == ("tpu", kind)
  assert found.devices[0].device_kind.startswith(found.chip.device_kind)


@needs_gpu_compiler
@pytest.mark.parametrize(
  ("name", "devices", "island"), [("h100:8", 8, 8), ("h200:8x2", 16, 8)]
)
def test_hosts_of_gpus(name, devices, island, undone):
  prepare(name)
  found = find_topology(name)
  assert (len(found.devices), found.island) == (devices, island)
  assert (found.platform, found.chip.kind) == ("gpu", name[:4])
  assert found.devices[0].device_kind.startswith(found.chip.device_kind)
  here = jax.sharding.SingleDeviceSharding(found.devices[0])
  x = jax.ShapeDtypeStruct((256, 128), jnp.bfloat16, sharding=here)
  compiled = jax.jit(lambda x: x @ x.T).lower(x).compile()
  assert compiler_flops(compiled) is None
  assert read_program(compiled).multiplied == 2 * 256 * 128 * 256


@needs_libtpu
def test_a_slice_that_there_cannot_be(undone):
  prepare("v5e:3x3")
  with pytest.raises(UserError, match="'v5e:3x3'"):
    find_topology("v5e:3x3")


@needs_libtpu
def test_nothing_need_be_set_before_jax_is_imported():
  code = (
    "import jax\n"
    "from lumiere_jax.profiling.topology import find_topology, prepare\n"
    "prepare('v5p:2x2x1')\n"
    "print(len(find_topology('v5p:2x2x1').devices), jax.devices()[0].platform)"
  )
  kept = {k: v for k, v in os.environ.items() if "TPU" not in k}
  kept.pop("JAX_PLATFORMS", None)
  done = subprocess.run(
    [sys.executable, "-c", code],
    env=kept | {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"},
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.stdout == "4 cpu\n", done.stderr


def test_a_program_for_devices_that_are_not_there_is_not_cached(
  undone, monkeypatch
):
  """Reading it back fails (jax 0.10), with a warning for each program."""
  monkeypatch.setattr(topology, "_has", lambda module: True)
  prepare("v5e:2x2")
  assert not jax.config.jax_enable_compilation_cache
  assert jax.config.jax_platforms == "cpu"
