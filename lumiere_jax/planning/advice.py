# SPDX-License-Identifier: Apache-2.0
"""What to change when a task does not fit, by trying it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lumiere_jax.config import Config
from lumiere_jax.config.network import REMAT
from lumiere_jax.nn.frames import possible_splits
from lumiere_jax.planning.plan import Plan, make_plan

# The fields that are changed, by their names on the command line.
Changes = dict[str, str | int]


@dataclass(frozen=True)
class Advice:
  """A task that was changed, and what came of it.

  Attributes:
    changes: all of them together.
    plan: of the changed task.
  """

  changes: Changes
  plan: Plan

  @property
  def flags(self) -> str:
    """The changes as arguments of a command line."""
    return " ".join(
      f"--config.{name}={value}" for name, value in self.changes.items()
    )


def find_fit(
  plan: Plan, tries: int, on_try: Callable[[Advice], None] | None = None
) -> list[Advice]:
  """Tries changes, one on top of the other, until the task fits.

  In training it first keeps less for the backward pass (`model.remat`), then
  splits the state further (`mesh.fsdp`), takes the batch in smaller parts
  (`train.accumulate`), and splits the clips (`mesh.frames`). In sampling only
  the state and the clips are left to split.

  Args:
    plan: of the task as it is, which does not fit.
    tries: programs that are compiled at most.
    on_try: is told of each.

  Returns:
    All that was tried; the last fits if any does.
  """
  tried: list[Advice] = []
  changed: Changes = {}
  for changes in _changes(plan):
    if len(tried) == tries:
      break
    changed |= changes
    task = replace(plan.task, cfg=_changed(plan.task.cfg, changed))
    advice = Advice(dict(changed), make_plan(task, plan.topology))
    tried.append(advice)
    if on_try:
      on_try(advice)
    if advice.plan.fits:
      break
  return tried


def _changed(cfg: Config, changes: Changes) -> Config:
  for name, value in changes.items():
    part, field = name.split(".")
    new = replace(getattr(cfg, part), **{field: value})
    cfg = replace(cfg, **{part: new})
  return cfg


def _changes(plan: Plan) -> Iterator[Changes]:
  """What is left to try, each on top of what came before."""
  task, devices = plan.task, len(plan.topology.devices)
  cfg, train = task.cfg, task.what == "train"
  inside = devices // plan.mesh.slices
  if train:
    for policy in REMAT[REMAT.index(cfg.model.remat) + 1 :]:
      # CPUs have no other memory to bring anything to.
      if policy != "offload" or plan.topology.platform != "cpu":
        yield {"model.remat": policy}
  # What was set for other sizes of the rest.
  rest: Changes = {"mesh.data": 0} if cfg.mesh.data else {}
  fsdp, frames = cfg.mesh.fsdp, cfg.mesh.frames
  while inside % (2 * fsdp * frames) == 0:
    fsdp *= 2
    yield {"mesh.fsdp": fsdp, **rest}
  accumulate, shares = cfg.train.accumulate, devices // frames
  while train and cfg.train.batch_size % (2 * accumulate * shares) == 0:
    accumulate *= 2
    yield {"train.accumulate": accumulate}
  possible = possible_splits(cfg.model, task.frames) if task.is_clip else ()
  while 2 * frames in possible and inside % (2 * frames) == 0:
    frames *= 2
    while inside % (fsdp * frames):
      fsdp //= 2
    yield {"mesh.fsdp": fsdp, "mesh.frames": frames, **rest}
