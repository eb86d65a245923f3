# SPDX-License-Identifier: Apache-2.0
"""Times what runs, again and again, and how long this process has run."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax


@dataclass(frozen=True)
class Timing:
  """Seconds of each of several equal runs, in their order.

  The first run, which may compile and fetches all into caches, is apart.
  """

  first: float
  seconds: tuple[float, ...]

  @property
  def median(self) -> float:
    return statistics.median(self.seconds)

  @property
  def quartiles(self) -> tuple[float, float]:
    """Between which half of the runs lie."""
    if len(self.seconds) < 2:
      return self.seconds[0], self.seconds[0]
    low, _, high = statistics.quantiles(self.seconds, method="inclusive")
    return low, high

  def as_dict(self) -> dict[str, Any]:
    low, high = self.quartiles
    return {
      "repeats": len(self.seconds),
      "median": self.median,
      "quartiles": [low, high],
      "min": min(self.seconds),
      "max": max(self.seconds),
      "first": self.first,
      "each": list(self.seconds),
    }


def measure(
  run: Callable[[], Any],
  repeats: int,
  *,
  warmup: int = 1,
  wait: Callable[[Any], Any] = jax.block_until_ready,
) -> Timing:
  """Times `repeats` runs, each from its call until its result is there.

  Args:
    run: what is timed.
    repeats: how often.
    warmup: runs before, the first of which is told apart; at least one.
    wait: for the result; JAX returns before it is computed.
  """

  def once() -> float:
    began = time.perf_counter()
    wait(run())
    return time.perf_counter() - began

  first, *_ = (once() for _ in range(max(warmup, 1)))
  return Timing(first, tuple(once() for _ in range(repeats)))


def process_began() -> float:
  """When this process began, on the clock of `time.perf_counter`.

  Linux tells it to a hundredth of a second. Elsewhere it is as long ago as the
  process has kept a processor busy: at least that, and about what imports take.
  """
  try:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[19])  # Field 22 of proc(5), since the system started.
    began = ticks / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began
  except (OSError, AttributeError, IndexError, ValueError):
    age = time.process_time()
  return time.perf_counter() - age
