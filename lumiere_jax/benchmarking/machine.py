# SPDX-License-Identifier: Apache-2.0
"""The machine that something is timed on, and what it can do at best."""

import datetime
import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lumiere_jax.benchmarking.clock import measure
from lumiere_jax.profiling.hardware import chip_of

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "lumiere_jax")
_REPEATS = 10
# Of the matrices: large enough for any device to be at its best, small enough
# for a core of a CPU.
_SIDE = {"cpu": 2048}
_LARGE_SIDE = 8192
# Bytes that are copied: more than caches hold.
_COPIED = {"cpu": 2**28}
_COPIED_BY_OTHERS = 2**31


@dataclass(frozen=True, kw_only=True)
class Peaks:
  """What one device can do at best, and who says so.

  Attributes:
    flops: operations per second of matrix multiplications.
    flops_source: the table's chip, or how it was measured.
    measured_flops: those of one large multiplication here, in the compute type.
    bandwidth: bytes per second that a copy here reads and writes.
    named_bandwidth: that of the table; None of unknown devices.
  """

  flops: float
  flops_source: str
  measured_flops: float
  bandwidth: float
  named_bandwidth: float | None


def environment() -> dict[str, Any]:
  """Versions, devices, processor, flags and date."""
  device = jax.devices()[0]
  return {
    "versions": {name: metadata.version(name) for name in _PACKAGES},
    "python": platform.python_version(),
    "system": platform.platform(),
    "device": device.device_kind,
    "platform": device.platform,
    "devices": jax.device_count(),
    "processor": _processor(),
    "cores": len(os.sched_getaffinity(0)),
    "xla_flags": os.environ.get("XLA_FLAGS", ""),
    "date": datetime.date.today().isoformat(),
  }


def measure_peaks(dtype: str) -> Peaks:
  """Times a matrix multiplication and a copy on the first device.

  Args:
    dtype: what the network computes in.
  """
  device = jax.devices()[0]
  measured = _matmul_flops(dtype, _SIDE.get(device.platform, _LARGE_SIDE))
  flops, source, named = measured, f"measured, matmul in {dtype}", None
  if chip := chip_of(device.device_kind):
    flops, source = chip.flops, f"{chip.kind}, bf16 (profiling/hardware.py)"
    named = chip.bandwidth
  return Peaks(
    flops=flops,
    flops_source=source,
    measured_flops=measured,
    bandwidth=_copy_bandwidth(_COPIED.get(device.platform, _COPIED_BY_OTHERS)),
    named_bandwidth=named,
  )


def _matmul_flops(dtype: str, side: int) -> float:
  a, b = jax.random.normal(jax.random.key(0), (2, side, side), jnp.dtype(dtype))
  multiply = jax.jit(jnp.dot)
  timing = measure(lambda: multiply(a, b), _REPEATS)
  return 2 * side**3 / min(timing.seconds)


def _copy_bandwidth(size: int) -> float:
  x = jnp.zeros(size // 4, jnp.float32)
  copy = jax.jit(lambda x: x + 1.0)  # A copy alone would be left out.
  timing = measure(lambda: copy(x), _REPEATS)
  return 2 * size / min(timing.seconds)


def _processor() -> str:
  """The processor's name as Linux tells it; "" elsewhere."""
  try:
    text = Path("/proc/cpuinfo").read_text()
  except OSError:
    return platform.processor()
  found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
  return found[1] if found else platform.processor()
