# SPDX-License-Identifier: Apache-2.0
"""Compiles a task for its devices and says what it takes."""

import time
from dataclasses import dataclass

import jax

from lumiere_jax.config import MeshConfig
from lumiere_jax.planning.account import Account, take_account
from lumiere_jax.planning.task import Task, clips_of, task_mesh, write_program
from lumiere_jax.profiling.hardware import Roofline, roofline
from lumiere_jax.profiling.memory import (
  NOT_TOLD,
  ProgramMemory,
  StateMemory,
  needed_bytes,
  program_memory,
)
from lumiere_jax.profiling.program import (
  Program,
  compiler_flops,
  read_program,
)
from lumiere_jax.profiling.topology import Topology

# Machine code of a CPU takes most of the time, and nothing here reads it.
_EFFORT = {"cpu": {"xla_backend_optimization_level": "0"}}


@dataclass(frozen=True, kw_only=True)
class Plan:
  """What one step of a task takes of one device.

  Attributes:
    task: what runs.
    topology: where.
    mesh: how the devices share it.
    clips: of the step, over all devices.
    state: bytes of parameters and of what trains them.
    inputs: bytes of the batch.
    memory: bytes of the program; all None where it is too large to compile.
    needed: bytes that a program takes that is too large, if that is told.
    account: operations, counted by hand.
    program: operations, traffic and collectives of the compiled program; None
      where it is too large.
    compiler_flops: XLA's own count, of loops one turn; None where it has none.
    seconds: that compiling took.
  """

  task: Task
  topology: Topology
  mesh: MeshConfig
  clips: int
  state: StateMemory
  inputs: int
  memory: ProgramMemory
  needed: int | None
  account: Account
  program: Program | None
  compiler_flops: int | float | None
  seconds: float

  @property
  def limit(self) -> float | None:
    """Bytes of memory that a device has; None is not known."""
    chip = self.topology.chip
    return None if chip is None else chip.memory

  @property
  def peak(self) -> int | None:
    """The most bytes that it takes at any time."""
    return self.needed or self.memory.peak

  @property
  def fits(self) -> bool | None:
    """Whether the memory suffices; None is not known."""
    if self.program is None:
      return False
    if self.limit is None or self.peak is None:
      return None
    return self.peak <= self.limit

  @property
  def roofline(self) -> Roofline | None:
    """The least time of a step; None where nothing is known of the device."""
    if self.program is None or self.topology.chip is None:
      return None
    return roofline(self.program, self.topology.chip, self.topology.island)

  @property
  def agreement(self) -> float | None:
    """The program's multiplications over those counted by hand."""
    if self.program is None:
      return None
    everywhere = self.program.multiplied * len(self.topology.devices)
    return everywhere / self.account.as_compiled

  @property
  def clips_per_second(self) -> float | None:
    """That are trained on, or made, at the roofline, by all devices."""
    if self.roofline is None:
      return None
    return self.roofline.rate(self.clips) / self.account.equivalent_steps

  @property
  def utilization(self) -> float | None:
    """Model FLOPs utilization at the roofline: the most that can be reached."""
    if self.roofline is None or self.topology.chip is None:
      return None
    peak = self.topology.chip.flops * len(self.topology.devices)
    return self.account.model / (self.roofline.seconds * peak)


def make_plan(task: Task, topology: Topology) -> Plan:
  """Compiles a task, which runs nothing.

  Raises:
    UserError: the devices cannot share the work.
  """
  sizes, mesh = task_mesh(task, topology)
  clips = clips_of(task, mesh)
  account = take_account(task, clips, sizes.frames)
  began = time.perf_counter()
  written = write_program(task, mesh)
  memory = NOT_TOLD
  program = flops = needed = None
  try:
    compiled = written.lowered.compile(_EFFORT.get(topology.platform))
  except jax.errors.JaxRuntimeError as error:
    needed = needed_bytes(error)
    if needed is None:
      raise
  else:
    memory = program_memory(compiled, topology.platform)
    program = read_program(compiled)
    flops = compiler_flops(compiled)
  return Plan(
    task=task,
    topology=topology,
    mesh=sizes,
    clips=clips,
    state=written.state,
    inputs=written.inputs,
    memory=memory,
    needed=needed,
    account=account,
    program=program,
    compiler_flops=flops,
    seconds=time.perf_counter() - began,
  )
