# SPDX-License-Identifier: Apache-2.0
"""Counts and times a subject; the result is a tree of numbers for JSON.

"counts" is of the lowered and the compiled program, "compile" of what comes
before the first run, "time" of all that follow it, and the rest is derived.
"""

import dataclasses
import resource
import sys
import time
from typing import Any

import jax

from lumiere_jax import trees
from lumiere_jax.benchmarking.clock import Timing, measure
from lumiere_jax.benchmarking.levels import Block, time_blocks
from lumiere_jax.benchmarking.machine import Peaks, Probe, environment
from lumiere_jax.benchmarking.subject import Subject
from lumiere_jax.profiling.memory import device_bytes, program_memory
from lumiere_jax.profiling.program import (
  compiler_flops,
  read_lowered,
  read_program,
)


def head(subject: Subject) -> dict[str, Any]:
  """What it is, and where it runs."""
  return {
    "config": subject.cfg.name,
    "what": subject.what,
    "clips": subject.clips,
    "frames": subject.frames,
    "size_px": subject.call.height,
    "dtype": subject.cfg.model.dtype,
    "environment": environment(),
  }


def count(subject: Subject, lowered: jax.stages.Lowered) -> dict[str, Any]:
  """What the program computes and is given, before it is compiled.

  Operations and bytes are of one step on all devices: of training, or of
  sampling, whose loop's body is counted once: with guidance, if any step has
  it. "steps" are those of a run, "network_evaluations" how often the network,
  or its guide, then sees each clip, "equivalent_steps" how many of the counted
  steps a run amounts to (`planning.account.Account`).
  """
  program = read_lowered(lowered)
  return {
    "parameters": trees.count(subject.params),
    "parameter_bytes": device_bytes(subject.params),
    "argument_bytes": device_bytes(lowered.in_avals),
    "output_bytes": device_bytes(lowered.out_info),
    "flops_nominal": subject.account.nominal,
    "flops_model": subject.account.model,
    "flops_lowered": program.multiplied,
    "operations_lowered": program.flops,
    "steps": subject.account.steps,
    "network_evaluations": subject.account.evaluations,
    "equivalent_steps": subject.account.equivalent_steps,
  }


def run(
  subject: Subject, repeats: int, *, blocks: bool, began: float
) -> dict[str, Any]:
  """Compiles, times and accounts for everything.

  JAX's persistent cache should be on and cold: the program is compiled by
  itself first, and found there by what runs.

  Args:
    subject: what to time.
    repeats: runs that are timed, after two that are not.
    blocks: whether the blocks of the network are timed too.
    began: `time.perf_counter()` of when the program began.
  """
  ready = time.perf_counter()
  lowered = subject.lower()
  traced = time.perf_counter()
  compiled = lowered.compile()
  done = time.perf_counter()
  again = _second_start(subject)
  program = read_program(compiled)
  counts = count(subject, lowered) | {
    "flops_compiled_per_device": program.multiplied,
    "flops_cost_analysis": compiler_flops(compiled),
    "bytes_compiled_per_device": program.bytes,
  }
  go, probe = subject.start(), Probe(subject.cfg.model.dtype)
  first = measure(go, 0).first
  memory = _memory(compiled)  # Before the probe has its own.
  probe.take()
  timing = dataclasses.replace(measure(go, repeats), first=first)
  probe.take()
  each = time_blocks(subject, repeats) if blocks else []
  if blocks:
    probe.take()
  start = {"import_and_build": ready - began, "second_start": again}
  cold = {"trace": traced - ready, "compile": done - traced}
  found = {
    **head(subject),
    "counts": counts,
    "compile": {**start, **cold},
    "time": timing.as_dict(),
    "throughput": {
      **_throughput(subject, timing),
      "seconds_to_first": done - began + timing.median,
      "seconds_to_first_again": sum(start.values()) + timing.median,
    },
    "memory": memory,
    "utilization": _utilization(subject, timing, program.bytes, probe.peaks()),
  }
  if blocks:
    found["blocks"] = [block.as_dict() for block in each]
    found["blocks_share"] = _share(subject, each, timing)
  return found


def _second_start(subject: Subject) -> float:
  """Seconds that another process would take to trace and to load the program.

  It finds the executable in the persistent cache, and nothing of what this
  process still knows.
  """
  jax.clear_caches()
  began = time.perf_counter()
  subject.lower().compile()
  return time.perf_counter() - began


def _throughput(subject: Subject, timing: Timing) -> dict[str, float]:
  seconds = timing.median
  rate = subject.clips / seconds
  return {
    "frames_per_second": rate * subject.frames,
    "clips_per_second": rate,
    "clips_per_second_per_device": rate / subject.devices,
    "seconds_per_clip": seconds / subject.clips,
    "seconds_per_step": seconds / subject.account.steps,
  }


def _utilization(
  subject: Subject, timing: Timing, moved: int, peaks: Peaks
) -> dict[str, Any]:
  """Model FLOPs utilization and the like, of one device.

  Bytes are those of the compiled program, each step; a program whose steps
  differ counts the dearest.
  """
  steps, devices = subject.account.equivalent_steps, subject.devices
  achieved = subject.account.model * steps / timing.median / devices
  bandwidth = moved * steps / timing.median
  return {
    **peaks.as_dict(),
    "achieved_flops": achieved,
    "mfu": achieved / peaks.flops,
    "of_measured_matmul": achieved / peaks.measured_flops,
    "bytes_per_second": bandwidth,
    "of_measured_copy": bandwidth / peaks.bandwidth,
  }


def _share(
  subject: Subject, blocks: list[Block], timing: Timing
) -> float | None:
  """What all blocks take, of the network's time; None of sampling."""
  if subject.what == "sample":
    return None
  return sum(block.seconds for block in blocks) / timing.median


def _memory(compiled: jax.stages.Compiled) -> dict[str, int | None]:
  """Bytes: what the program is said to take, and what was held until now."""
  program = program_memory(compiled, jax.default_backend())
  return {
    "program_peak": program.peak,
    "program_arguments": program.arguments,
    "program_temporaries": program.temporaries,
    "device_peak": _device_peak(),
    "process_peak": _process_peak(),
  }


def _device_peak() -> int | None:
  """Bytes that the first device held at most; None where it does not tell."""
  stats = jax.devices()[0].memory_stats()
  return None if stats is None else stats.get("peak_bytes_in_use")


def _process_peak() -> int:
  """Bytes of main memory that this process had at most."""
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
