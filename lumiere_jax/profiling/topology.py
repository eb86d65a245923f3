# SPDX-License-Identifier: Apache-2.0
"""Devices that programs are compiled for and that need not be there.

A name is a kind of accelerator and how many of them: "v5p:4x4x4" chips of a
slice of TPUs, "v5e:8x8*2" two such slices, "h100:8" the GPUs of a host,
"h200:8x2" those of two hosts, or "local", the devices that there are.
"""

import importlib.util
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from lumiere_jax.errors import UserError, nearest
from lumiere_jax.profiling.hardware import CHIPS, Chip, chip_of

LOCAL = "local"
# Axes of a slice by the kind of TPU.
_TPU_AXES = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2, "tpu7x": 3}
_GPUS = ("h100", "h200")
KINDS = (*_TPU_AXES, *_GPUS)
_FORMS = (
  "write v5e:4x4, v5p:4x4x4, v6e:8x8*2 (slices), h100:8, h200:8x2 (hosts) or "
  "local"
)

# libtpu looks for the machine that it is on, and would wait for it. The type is
# any: it keeps libtpu from warning that it finds none.
_TPU_ENVIRONMENT = {
  "TPU_ACCELERATOR_TYPE": "v5litepod-4",
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_LOG_DIR": "disabled",
}
_GPU_ENVIRONMENT = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}

# What XLA must know of a GPU to compile for it, as JAX reports it of an H200
# and an H100 (SXM): they differ in their memory only.
_GPU_TARGET = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  shared_memory_per_block_optin: 232448
  cuda_compute_capability {{ major: 9 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 2 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{name}"
"""
_GPU_FACTS = {
  "h100": dict(
    name="NVIDIA H100 80GB HBM3",
    memory=84929347584,
    bandwidth=3352320000000,
  ),
  "h200": dict(
    name="NVIDIA H200 141GB HBM3e",
    memory=151397597184,
    bandwidth=4800000000000,
  ),
}


@dataclass(frozen=True)
class Topology:
  """Devices, and what they are.

  Attributes:
    name: as the user wrote it.
    devices: real ones or such as can only be compiled for.
    platform: "cpu", "tpu" or "gpu".
    chip: what they are of; None where nothing is known of it.
    island: devices that the fast interconnect joins: a slice's or a host's.
  """

  name: str
  devices: tuple[Any, ...]
  platform: str
  chip: Chip | None
  island: int


@dataclass(frozen=True)
class _Name:
  """A name taken apart: `groups` are slices of TPUs or hosts of GPUs."""

  kind: str
  dims: tuple[int, ...]
  groups: int


def prepare(name: str) -> None:
  """Sets up JAX for compiling for a topology, to be called before it is used.

  The host is a CPU then whatever else it has, and libtpu looks for no machine.
  libtpu and JAX's backends read all this when they are first asked for
  something, not when jax is imported: nothing need be set by the user, and no
  program be started anew. Of the local devices nothing is set.

  TPU programs are compiled with the least effort: in a fraction of the time,
  with the same collectives and the same memory. No compilation cache is used:
  JAX cannot read programs back from it for devices that are not there.

  Raises:
    UserError: there is no such topology, or what compiles for it is missing.
  """
  if name == LOCAL:
    return
  kind = _parse(name).kind
  _check_installed(name, kind)
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_enable_compilation_cache", False)
  compilation_cache.reset_cache()
  if kind in _GPUS:
    settings = _GPU_ENVIRONMENT
  else:
    settings = _TPU_ENVIRONMENT
    jax.config.update("jax_optimization_level", "O0")
  for variable, value in settings.items():
    os.environ.setdefault(variable, value)


def find_topology(name: str) -> Topology:
  """The devices of a name; call `prepare` with it first.

  Raises:
    UserError: there is no such topology, or what compiles for it is missing.
  """
  if name == LOCAL:
    devices = tuple(jax.devices())
    return Topology(
      name=name,
      devices=devices,
      platform=devices[0].platform,
      chip=chip_of(devices[0].device_kind),
      island=_local_island(devices),
    )
  parsed = _parse(name)
  _check_installed(name, parsed.kind)
  make = _gpus if parsed.kind in _GPUS else _tpus
  try:
    devices = tuple(make(parsed).devices)
  except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
    line = str(error).partition("\n")[0]
    raise UserError(f"topology {name!r}: {line}") from error
  chip = CHIPS[parsed.kind]
  island = len(devices) // parsed.groups
  platform = "gpu" if parsed.kind in _GPUS else "tpu"
  return Topology(name, devices, platform, chip, island)


def _local_island(devices: Sequence[Any]) -> int:
  """Those of the first device's slice, or process."""

  def place(device):
    return getattr(device, "slice_index", None) or (
      0 if device.platform == "tpu" else device.process_index
    )

  return sum(place(d) == place(devices[0]) for d in devices)


def _parse(name: str) -> _Name:
  kind, colon, rest = name.partition(":")
  if kind == LOCAL:
    raise UserError(f"no topology {name!r}; those that are here are {LOCAL!r}")
  if kind not in KINDS:
    raise UserError(
      f"no topology {name!r}: unknown accelerator {kind!r}"
      f"{nearest(kind, (*KINDS, LOCAL))}"
    )
  found = re.fullmatch(r"(\d+(?:x\d+)*)(?:\*(\d+))?", rest)
  if not colon or not found:
    raise UserError(f"no topology {name!r}; {_FORMS}")
  dims = tuple(int(i) for i in found[1].split("x"))
  groups = int(found[2] or 1)
  if kind in _GPUS:
    if len(dims) > 2 or found[2]:
      raise UserError(f"no topology {name!r}: GPUs are h100:8 or h100:8x2")
    dims, groups = dims[:1], dims[1] if len(dims) == 2 else 1
  elif len(dims) != _TPU_AXES[kind]:
    raise UserError(
      f"no topology {name!r}: a slice of {kind} has {_TPU_AXES[kind]} axes, as "
      f"{kind}:{'x'.join(['4'] * _TPU_AXES[kind])}"
    )
  if min(*dims, groups, 1) < 1:
    raise UserError(f"no topology {name!r}: each number must be > 0")
  return _Name(kind, dims, groups)


def _check_installed(name: str, kind: str) -> None:
  if kind in _GPUS:
    found = _has("jax_plugins.xla_cuda13") or _has("jax_plugins.xla_cuda12")
    what, extra = "JAX's CUDA plugin", "gpu"
  else:
    found, what, extra = _has("libtpu"), "libtpu", "plan"
  if not found:
    raise UserError(
      f"topology {name!r} needs {what}, which is not installed: "
      f"pip install 'lumiere_jax[{extra}]'"
    )


def _has(module: str) -> bool:
  try:
    return importlib.util.find_spec(module) is not None
  except ModuleNotFoundError:  # Not even the package that it is in.
    return False


def _tpus(name: _Name) -> Any:
  from jax.experimental import topologies

  options: dict[str, Any] = {}
  if name.groups > 1:
    options["num_slices"] = name.groups
  dims = (*name.dims, 1)[:3]
  if math.prod(dims) < 4:  # A part of a host, which by default has 2 x 2.
    options["chips_per_host_bounds"] = dims
  if name.kind == "v4":
    options["chip_config_name"] = "megacore"  # One device for both cores.
  return topologies.get_topology_desc(
    platform="tpu",
    topology_name=f"{name.kind}:{'x'.join(map(str, name.dims))}",
    **options,
  )


def _gpus(name: _Name) -> Any:
  from jax.experimental import topologies

  return topologies.get_topology_desc(
    platform="cuda",
    topology_name="",
    topology=f"1x{name.groups}x{name.dims[0]}",
    target_config=_GPU_TARGET.format(**_GPU_FACTS[name.kind]),
  )
