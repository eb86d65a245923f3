# SPDX-License-Identifier: Apache-2.0
"""Where a device's memory goes: the state by its parts, and the program's."""

import math
import re
from dataclasses import dataclass
from typing import Any

import jax

from lumiere_jax.shapes import PyTree

# "... (20.50G) exceeds available HBM (15.75G)" or "Used 20.5G of 15.7G hbm".
_TOO_LARGE = (
  re.compile(
    r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)"
  ),
  re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True, kw_only=True)
class StateMemory:
  """Bytes of a training state on one device.

  Attributes:
    parameters: those that train.
    frozen: those that do not.
    ema: the running average.
    optimizer: the moments and counts of the optimizer.
  """

  parameters: int
  frozen: int
  ema: int
  optimizer: int

  @property
  def total(self) -> int:
    return self.parameters + self.frozen + self.ema + self.optimizer


@dataclass(frozen=True, kw_only=True)
class ProgramMemory:
  """Bytes of a compiled program on one device; None is not told.

  Attributes:
    arguments: what it is given.
    output: what it returns; what is written over arguments is not counted.
    temporaries: activations and all else that it needs in between.
    peak: the most at any time, all of it together.
    host: what it keeps in the memory of the host in between.
  """

  arguments: int | None
  output: int | None
  temporaries: int | None
  peak: int | None
  host: int | None


NOT_TOLD = ProgramMemory(
  arguments=None, output=None, temporaries=None, peak=None, host=None
)


def device_bytes(tree: PyTree) -> int:
  """Bytes of a tree's leaves on the device that holds the most.

  Args:
    tree: arrays or `jax.ShapeDtypeStruct`s; those without a sharding lie on
      the device whole.
  """
  return sum(_leaf_bytes(leaf) for leaf in jax.tree.leaves(tree))


def _leaf_bytes(leaf: Any) -> int:
  sharding = getattr(leaf, "sharding", None)
  shape = leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)
  return math.prod(shape) * leaf.dtype.itemsize


def state_memory(state: Any) -> StateMemory:
  """Bytes of a training state, by what they are for.

  Args:
    state: its `params`, `frozen`, `ema` and `opt_state` are trees of arrays or
      of `jax.ShapeDtypeStruct`s with shardings.
  """
  return StateMemory(
    parameters=device_bytes(state.params),
    frozen=device_bytes(state.frozen),
    ema=device_bytes(state.ema),
    optimizer=device_bytes(state.opt_state),
  )


def program_memory(compiled: Any, platform: str) -> ProgramMemory:
  """What XLA says that a program takes.

  TPUs and GPUs tell the peak, in which arrays that do not live at the same time
  share their place; that of a CPU leaves the temporaries out and is replaced by
  the sum. On GPUs it is without what libraries such as cuDNN ask for.

  Args:
    compiled: a `jax.stages.Compiled`.
    platform: "cpu", "tpu", "gpu" or "cuda".
  """
  stats = compiled.memory_analysis()
  if stats is None:
    return NOT_TOLD
  arguments = stats.argument_size_in_bytes
  output = stats.output_size_in_bytes - stats.alias_size_in_bytes
  peak = getattr(stats, "peak_memory_in_bytes", None)
  if platform == "cpu":
    temporaries = stats.temp_size_in_bytes
    peak = arguments + output + temporaries
  elif peak:
    temporaries = max(peak - arguments - output, 0)
  else:
    temporaries, peak = stats.temp_size_in_bytes, None
  return ProgramMemory(
    arguments=arguments,
    output=output,
    temporaries=temporaries,
    peak=peak,
    host=getattr(stats, "host_temp_size_in_bytes", None),
  )


def needed_bytes(error: Exception) -> int | None:
  """What a program takes that was too large for a TPU to compile.

  Returns:
    The bytes that the compiler's error tells; None if it is another error.
  """
  text = str(error)
  if "RESOURCE_EXHAUSTED" not in text:
    return None
  for pattern in _TOO_LARGE:
    if found := pattern.search(text):
      return round(float(found[1]) * _UNITS[found[2]])
  return None
