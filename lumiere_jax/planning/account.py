# SPDX-License-Identifier: Apache-2.0
"""The operations of a task, counted from its configuration alone."""

import dataclasses
from dataclasses import dataclass

from lumiere_jax import build, trees
from lumiere_jax.config import UNetConfig
from lumiere_jax.diffusion.multidiffusion import place_windows
from lumiere_jax.diffusion.sampler import sampling_timesteps
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.linked import guide_config
from lumiere_jax.nn.frames import Split, levels
from lumiere_jax.planning.task import Task, sampling_task
from lumiere_jax.profiling.ledger import Layer
from lumiere_jax.profiling.network import Call, Network, count_network
from lumiere_jax.profiling.work import (
  AS_XLA,
  NOMINAL,
  Calls,
  sample_flops,
  sampling_calls,
  train_flops,
)


@dataclass(frozen=True)
class Account:
  """Operations of one step on all devices, of what multiplies matrices.

  Attributes:
    nominal: with the taps that fall on padding, as papers count.
    as_compiled: without them, as XLA counts.
    model: nominal, and without what is computed a second time, for the
      backward pass or on another device: what "model FLOPs utilization" is
      about.
    steps: of training (1), or of the sampler, that make a run.
    evaluations: of the network on one clip, or one window of it, that make a
      run for each clip; a step with guidance has two, and one more with a
      guide.
    equivalent_steps: how many of the counted steps do what a run does. A
      program is counted with the dearest kind of its steps: where some have
      guidance, those without are halves.
  """

  nominal: float
  as_compiled: float
  model: float
  steps: int
  evaluations: int
  equivalent_steps: float


def take_account(task: Task, clips: int, sharers: int = 1) -> Account:
  """Counts one step.

  Args:
    task: what runs.
    clips: of the step, over all devices.
    sharers: devices that share the frames of a clip.

  Raises:
    UserError: a size that the strides of the network do not divide.
  """
  if task.what == "train":
    return _training(task, clips, sharers)
  return _sampling(task, clips, sharers)


def _training(task: Task, clips: int, sharers: int) -> Account:
  cfg = task.cfg
  frames, height, width = cfg.data.train_size
  call = _call(task, clips, (frames, height, width))
  trained, _ = build.trainable(cfg, build.abstract_params(cfg.model))
  network = count_network(cfg.model, call, trees.flatten(trained).__contains__)
  once = train_flops(network, cfg.model.remat)
  network = _repeated(network, cfg.model, task, sharers)
  return Account(
    nominal=train_flops(network, cfg.model.remat).multiplied,
    as_compiled=train_flops(network, cfg.model.remat, AS_XLA).multiplied,
    model=once.multiplied - once.recomputed,
    steps=1,
    evaluations=1,
    equivalent_steps=1.0,
  )


def _sampling(task: Task, clips: int, sharers: int) -> Account:
  cfg = task.cfg
  shape, windows = tuple(build.clip_size(cfg)), 1
  if task.is_clip:
    places = place_windows(shape, cfg.windows)
    shape, windows = places.size, len(places.starts)
  call = _call(task, clips, shape)
  network, guide = count_network(cfg.model, call), None
  if (other := guide_config(cfg)) is not None:
    model = build.task_model(other, sampling_task(task))
    guide = count_network(model, call)
  schedule = make_schedule(cfg.diffusion.schedule)
  timesteps = sampling_timesteps(schedule, cfg.sampler)
  calls = sampling_calls(cfg.sampler, timesteps, schedule.num_timesteps)
  # The program has the dearest kind of step.
  led = int(calls.double > 0)
  one = Calls(double=led, single=1 - led, guide=int(calls.guide > 0))
  once, whole = (
    sample_flops(network, c, windows, NOMINAL, guide) for c in (one, calls)
  )
  network = _repeated(network, cfg.model, task, sharers)
  if guide is not None:
    guide = _repeated(guide, model, task, sharers)
  return Account(
    nominal=sample_flops(network, one, windows, NOMINAL, guide),
    as_compiled=sample_flops(network, one, windows, AS_XLA, guide),
    model=once,
    steps=calls.double + calls.single,
    evaluations=(calls.clips + calls.guide) * windows,
    equivalent_steps=whole / once,
  )


def _repeated(
  network: Network, model: UNetConfig, task: Task, sharers: int
) -> Network:
  """With what each device of a clip computes for itself counted for each.

  That is all of the levels whose frames they cannot share, from the strided
  convolution that leads there on, and what is outside of levels.
  """
  frames = levels(model, task.frames, Split("frames", sharers))
  whole = [i for i, level in enumerate(frames) if level.split is None]

  def is_repeated(layer: Layer) -> bool:
    level = layer.level
    if "/temporal_downsample/" in layer.path:
      level += 1  # That it leads to.
    return level is None or level in whole

  return dataclasses.replace(
    network,
    layers=tuple(
      dataclasses.replace(layer, flops=layer.flops * sharers)
      if is_repeated(layer)
      else layer
      for layer in network.layers
    ),
  )


def _call(task: Task, clips: int, size: tuple[int, int, int]) -> Call:
  call = Call(
    batch=clips,
    frames=size[0],
    height=size[1],
    width=size[2],
    tokens=task.cfg.text.max_tokens,
  )
  return call if task.is_clip else dataclasses.replace(call, frames=1)
