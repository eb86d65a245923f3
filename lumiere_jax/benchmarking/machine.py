# SPDX-License-Identifier: Apache-2.0
"""The machine that something is timed on, and what it can do at best."""

import datetime
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from lumiere_jax.benchmarking.clock import measure
from lumiere_jax.profiling.hardware import chip_of

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "lumiere_jax")
_REPEATS = 10
_STEADY = 0.1  # A spread of rounds that is not worth a word.
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
    matmul_rounds: `measured_flops` of each round; it is the best of them.
    copy_rounds: `bandwidth` of each round, likewise.
  """

  flops: float
  flops_source: str
  measured_flops: float
  bandwidth: float
  named_bandwidth: float | None
  matmul_rounds: tuple[float, ...]
  copy_rounds: tuple[float, ...]

  def as_dict(self) -> dict[str, Any]:
    return {
      **asdict(self),
      "matmul_rounds": list(self.matmul_rounds),
      "copy_rounds": list(self.copy_rounds),
      "matmul_spread": spread(self.matmul_rounds),
      "copy_spread": spread(self.copy_rounds),
    }


def spread(rounds: Sequence[float]) -> float:
  """By which share of the best round the worst one is below it."""
  return 1.0 - min(rounds) / max(rounds)


def unsteady(use: Mapping[str, Any]) -> str:
  """One line about a machine that did not keep its speed; "" if it did.

  Args:
    use: `Peaks.as_dict`; empty is of nothing that was measured.
  """
  told = [
    f"{name} {min(rounds) / 1e9:.4g} to {max(rounds) / 1e9:.4g} {unit}"
    for name, unit in (("matmul", "GFLOP/s"), ("copy", "GB/s"))
    if (rounds := use.get(f"{name}_rounds")) and spread(rounds) > _STEADY
  ]
  if not told:
    return ""
  return (
    f"this machine's speed varied while it was measured: {', '.join(told)}; "
    "shares of the peak are of the best"
  )


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


class Probe:
  """Finds what the first device can do at best.

  A machine that others use too is slower at times. So it is asked in several
  rounds spread over what is measured, and the best one counts.

  Args:
    dtype: what the network computes in.
  """

  def __init__(self, dtype: str):
    self._dtype = dtype
    self._matmul: list[float] = []
    self._copy: list[float] = []

  def take(self) -> None:
    """One round: times matrix multiplications and copies."""
    platform = jax.devices()[0].platform
    side = _SIDE.get(platform, _LARGE_SIDE)
    self._matmul.append(_matmul_flops(self._dtype, side))
    self._copy.append(_copy_bandwidth(_COPIED.get(platform, _COPIED_BY_OTHERS)))

  def peaks(self) -> Peaks:
    """The best of all rounds, of which there must be one."""
    measured = max(self._matmul)
    flops, source, named = measured, f"measured, matmul in {self._dtype}", None
    if chip := chip_of(jax.devices()[0].device_kind):
      flops, source = chip.flops, f"{chip.kind}, bf16 (profiling/hardware.py)"
      named = chip.bandwidth
    return Peaks(
      flops=flops,
      flops_source=source,
      measured_flops=measured,
      bandwidth=max(self._copy),
      named_bandwidth=named,
      matmul_rounds=tuple(self._matmul),
      copy_rounds=tuple(self._copy),
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
