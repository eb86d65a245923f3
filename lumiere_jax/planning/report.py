# SPDX-License-Identifier: Apache-2.0
"""Plans as text and as JSON; what is not known is "n/a", or null."""

import dataclasses
from typing import Any

import jax

from lumiere_jax.planning.advice import Advice
from lumiere_jax.planning.plan import Plan
from lumiere_jax.profiling.collectives import Collective

_UNKNOWN = "n/a"


def as_dict(plan: Plan, tried: list[Advice] | None = None) -> dict[str, Any]:
  """All figures of a plan, for JSON; bytes and operations are of one step.

  Args:
    plan: of the task as it is.
    tried: changes that were tried because it does not fit.
  """
  program, chip = plan.program, plan.topology.chip
  found = {
    "config": plan.task.cfg.name,
    "what": plan.task.what,
    "topology": {
      "name": plan.topology.name,
      "platform": plan.topology.platform,
      "chip": chip and chip.kind,
      "devices": len(plan.topology.devices),
      "island": plan.topology.island,
    },
    "mesh": dataclasses.asdict(plan.mesh),
    "clips": plan.clips,
    "frames": plan.task.frames,
    "size_px": plan.task.size_px,
    "remat": plan.task.cfg.model.remat,
    "accumulate": plan.task.cfg.train.accumulate,
    "fits": plan.fits,
    "memory": {
      "limit": plan.limit,
      "peak": plan.peak,
      **dataclasses.asdict(plan.state),
      "inputs": plan.inputs,
      "arguments": plan.memory.arguments,
      "output": plan.memory.output,
      "temporaries": plan.memory.temporaries,
      "host": plan.memory.host,
    },
    "flops": {
      "compiled_per_device": program and program.flops,
      "multiplied_per_device": program and program.multiplied,
      "cost_analysis": plan.compiler_flops,
      "analytic": plan.account.as_compiled,
      "analytic_with_padding": plan.account.nominal,
      "model": plan.account.model,
      "compiled_over_analytic": plan.agreement,
      "unknown_loops": program and program.unknown_loops,
    },
    "bytes_accessed": program and program.bytes,
    "intensity": program and program.intensity,
    "collectives": program
    and [_collective(c, plan.topology.island) for c in program.collectives],
    "steps": plan.account.steps,
    "equivalent_steps": plan.account.equivalent_steps,
    "roofline": _roofline(plan),
    "compile_seconds": round(plan.seconds, 1),
    "jax": jax.__version__,
  }
  if tried is not None:
    found["tried"] = [
      {"changes": advice.changes, **as_dict(advice.plan)} for advice in tried
    ]
  return found


def _collective(collective: Collective, island: int) -> dict[str, Any]:
  return {
    "kind": collective.kind,
    "devices": len(collective.members),
    "between_islands": collective.leaves(island),
    "count": collective.count,
    "bytes": collective.bytes,
  }


def _roofline(plan: Plan) -> dict[str, Any] | None:
  if plan.roofline is None:
    return None
  return {
    **dataclasses.asdict(plan.roofline),
    "seconds": plan.roofline.seconds,
    "binding": plan.roofline.binding,
    "clips_per_second": plan.clips_per_second,
    "model_flops_utilization": plan.utilization,
  }


def as_text(plan: Plan) -> str:
  """A plan to be read, all figures of one device but for the last."""
  lines = [_head(plan), "", *_memory(plan), "", *_work(plan)]
  if plan.program:
    lines += ["", *_collectives(plan)]
  lines += ["", *_time(plan)]
  return "\n".join(lines)


def verdict(plan: Plan) -> str:
  """One line: whether it fits, and how much of the memory it takes."""
  if plan.fits is None:
    return f"takes {_size(plan.peak)}"
  said = "fits" if plan.fits else "does not fit"
  share = ""
  if plan.peak and plan.limit:
    share = f" ({plan.peak / plan.limit:.0%})"
  return f"{said}: {_size(plan.peak)} of {_size(plan.limit)}{share}"


def _head(plan: Plan) -> str:
  cfg, mesh = plan.task.cfg, plan.mesh
  what = "a training step" if plan.task.what == "train" else "a denoising step"
  slices = f" in {mesh.slices} slices" if mesh.slices > 1 else ""
  own = ""
  if plan.task.what == "train":
    own = f", remat {cfg.model.remat}, accumulate {cfg.train.accumulate}"
  return (
    f"{cfg.name}: {what} of {_clips(plan)} of "
    f"{plan.task.size_px} px on {len(plan.topology.devices)} devices of "
    f"{plan.topology.name}{slices} (data {mesh.data} x fsdp {mesh.fsdp} x "
    f"frames {mesh.frames}{own})"
  )


def _clips(plan: Plan) -> str:
  if not plan.task.is_clip:
    return f"{plan.clips} images"
  return f"{plan.clips} x {plan.task.frames} frames"


def _memory(plan: Plan) -> list[str]:
  state, memory = plan.state, plan.memory
  rows = [
    ("parameters that train", state.parameters),
    ("frozen parameters", state.frozen),
    ("running average", state.ema),
    ("optimizer", state.optimizer),
    ("inputs", plan.inputs),
    ("output", memory.output),
    ("activations and other temporaries", memory.temporaries),
    ("peak", plan.peak),
    ("in the host's memory", memory.host),
  ]
  lines = [f"  {name:<34} {_size(value):>11}" for name, value in rows]
  return [f"memory: {verdict(plan)}", *lines]


def _work(plan: Plan) -> list[str]:
  program, account = plan.program, plan.account
  everywhere = program and program.multiplied * len(plan.topology.devices)
  rows = [
    ("multiplied, of the program", _number(everywhere, "FLOP")),
    ("counted by hand", _number(account.as_compiled, "FLOP")),
    ("with taps on padding", _number(account.nominal, "FLOP")),
    ("the model's own", _number(account.model, "FLOP")),
    ("program / by hand", _ratio(plan.agreement)),
    ("XLA's cost analysis, one device", _number(plan.compiler_flops, "FLOP")),
    ("other operations, one device", _number(_of(program, "elementwise"), "")),
    ("bytes accessed, one device", _number(_of(program, "bytes"), "B")),
    ("operations for each byte", _plain(_of(program, "intensity"))),
  ]
  return [
    "work of a step on all devices:",
    *(f"  {name:<34} {value:>12}" for name, value in rows),
  ]


def _collectives(plan: Plan) -> list[str]:
  islands = "hosts" if plan.topology.platform == "gpu" else "slices"
  lines = [
    f"  {c.kind:<20} {c.count:>6} times {_size(c.bytes):>11} among "
    f"{len(c.members)}"
    + (f", between {islands}" if c.leaves(plan.topology.island) else "")
    for c in plan.program.collectives
  ]
  return ["collectives of a device:", *(lines or ["  none"])]


def _time(plan: Plan) -> list[str]:
  line = plan.roofline
  if line is None:
    return [f"roofline: {_UNKNOWN}"]
  times = [
    f"{name} {_plain(value)} s"
    for name, value in dataclasses.asdict(line).items()
  ]
  return [
    f"roofline: {_plain(line.seconds)} s a step, bound by {line.binding} "
    f"({', '.join(times)})",
    f"  {_plain(plan.clips_per_second)} clips a second on all devices, model "
    f"FLOPs utilization at most {plan.utilization:.0%}",
  ]


def _of(program: Any, name: str) -> Any:
  return None if program is None else getattr(program, name)


def _size(value: int | float | None) -> str:
  if value is None:
    return _UNKNOWN
  for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
    if value >= unit:
      return f"{value / unit:,.2f} {name}"
  return f"{value / 2**10:,.2f} KiB"


def _number(value: int | float | None, unit: str) -> str:
  if value is None:
    return _UNKNOWN
  for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
    if value >= factor:
      return f"{value / factor:,.2f} {prefix}{unit}"
  return f"{value:,.0f} {unit}"


def _ratio(value: int | float | None) -> str:
  return _UNKNOWN if value is None else f"{value:.3f}"


def _plain(value: int | float | None) -> str:
  return _UNKNOWN if value is None else f"{value:.3g}"
