# SPDX-License-Identifier: Apache-2.0
"""What is planned: a training step, or a denoising step of sampling."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lumiere_jax import build, sharding
from lumiere_jax.config import Config, MeshConfig
from lumiere_jax.errors import UserError
from lumiere_jax.inference.asking import WithGuide
from lumiere_jax.inference.generate import Text
from lumiere_jax.linked import guide_config
from lumiere_jax.models.sharded import check_frames
from lumiere_jax.profiling.memory import StateMemory, device_bytes, state_memory
from lumiere_jax.profiling.topology import Topology
from lumiere_jax.shapes import PyTree
from lumiere_jax.stage import abstract_batch, make_stage

WHATS = ("train", "sample")


@dataclass(frozen=True)
class Task:
  """What runs on all devices together.

  Attributes:
    cfg: of the model and the recipe.
    what: one of WHATS.
    clips: that are sampled at once; 0 is one for each share of the batch. In
      training it is the config's batch size.
  """

  cfg: Config
  what: str
  clips: int = 0

  @property
  def is_clip(self) -> bool:
    """Whether clips are made, not images."""
    if self.what == "train":
      return self.cfg.train.stage == "video"
    return self.cfg.model.temporal is not None

  @property
  def frames(self) -> int:
    """That the network sees at once: 1 of images."""
    if not self.is_clip:
      return 1
    if self.what == "train":
      return self.cfg.data.train_size[0]
    return self.cfg.windows.frames or self.cfg.data.num_frames

  @property
  def size_px(self) -> int:
    """Height and width of what is trained on, or made."""
    if self.what == "train":
      return self.cfg.data.train_size[1]
    return self.cfg.data.size_px


class Written(NamedTuple):
  """A program that is not compiled yet.

  Attributes:
    lowered: the program.
    state: bytes of the parameters, and of what trains them, on one device.
    inputs: bytes of all else that it is given.
  """

  lowered: jax.stages.Lowered
  state: StateMemory
  inputs: int


def task_mesh(task: Task, topology: Topology) -> tuple[MeshConfig, Mesh]:
  """The mesh of all devices; slices of TPUs are the outer part of "data".

  Raises:
    UserError: the config's sizes do not make so many devices, or cannot share
      the clips.
  """
  sizes = task.cfg.mesh
  if topology.platform == "tpu" and sizes.slices == 1:
    slices = len(topology.devices) // topology.island
    sizes = replace(sizes, slices=slices)
  sizes = sharding.resolved(sizes, len(topology.devices))
  mesh = sharding.make_mesh(sizes, topology.devices)
  check_frames(task.cfg.model, task.frames, mesh)
  return sizes, mesh


def clips_of(task: Task, mesh: Mesh) -> int:
  """Clips of a step, over all devices.

  Raises:
    UserError: the devices cannot share so many.
  """
  if task.what == "train":
    return task.cfg.train.batch_size
  shares = sharding.batch_shares(mesh)
  clips = task.clips or shares
  if clips % shares:
    raise UserError(
      f"--clips={clips} cannot be split over mesh.data x mesh.fsdp = {shares} "
      "devices: it must be a multiple of that"
    )
  return clips


def write_program(task: Task, mesh: Mesh) -> Written:
  """Traces the program that runs, for devices of a mesh.

  Raises:
    UserError: the devices cannot share the work.
  """
  if task.what == "train":
    return _training(task.cfg, mesh)
  return _sampling(task, mesh)


def _training(cfg: Config, mesh: Mesh) -> Written:
  text = (1, cfg.text.max_tokens, cfg.model.encoder_hid_dim)
  empty = np.zeros(text, np.float16), np.zeros(text[:2], np.bool_)
  stage = make_stage(cfg, empty, mesh)
  batch = abstract_batch(cfg, mesh)
  lowered = stage.step.lower(stage.like, batch)
  return Written(lowered, state_memory(stage.like), device_bytes(batch))


def sampling_task(task: Task) -> str:
  """Which of `conditioning.task.TASKS` is sampled, by what the model is for."""
  upscales = task.cfg.condition.kind == "low_res"
  if task.is_clip:
    return "upscale" if upscales else "text_to_video"
  return "upscale_image" if upscales else "text_to_image"


class Inputs(NamedTuple):
  """What sampling is given beside parameters, as `Generator.lower` takes it."""

  text: Text
  negative: Text
  given: Any
  low: Any


def sampling_inputs(task: Task, clips: int) -> Inputs:
  """Shapes and types of what `clips` samples are given; `given` is of numbers.

  Args:
    task: what is sampled.
    clips: how many at once.
  """
  cfg = task.cfg
  text = (clips, cfg.text.max_tokens, cfg.model.encoder_hid_dim)
  text, negative = (
    Text(
      jax.ShapeDtypeStruct((rows, *text[1:]), jnp.float32),
      jax.ShapeDtypeStruct((rows, text[1]), jnp.bool_),
    )
    for rows in (clips, 1)
  )
  low = None
  if cfg.condition.kind == "low_res":
    size = build.material_size(cfg)
    size = size if task.is_clip else size[1:]
    low = jax.ShapeDtypeStruct((clips, *size, 3), jnp.uint8)
  given = build.given_batch(cfg, sampling_task(task), None, clips)
  return Inputs(text, negative, given, low)


def sampling_params(task: Task, mesh: Mesh | None) -> PyTree:
  """Shapes and types of parameters, as `Generator.lower` takes them.

  Args:
    task: what is sampled.
    mesh: where they lie; None is one device.

  Raises:
    UserError: the sampler's guide does not fit.
  """

  def like(cfg: Config) -> PyTree:
    model = build.task_model(cfg, sampling_task(task))
    params = build.abstract_params(model)
    return params if mesh is None else sharding.abstract_tree(params, mesh)

  if (guide := guide_config(task.cfg)) is None:
    return like(task.cfg)
  return WithGuide(like(task.cfg), like(guide))


def _sampling(task: Task, mesh: Mesh) -> Written:
  cfg, clips = task.cfg, clips_of(task, mesh)
  guide = guide_config(cfg)
  generator = build.generator(cfg, sampling_task(task), mesh=mesh, guide=guide)
  params = sampling_params(task, mesh)
  inputs = sampling_inputs(task, clips)
  lowered = generator.lower(params, *inputs)
  state = StateMemory(
    parameters=0, frozen=device_bytes(params), ema=0, optimizer=0
  )
  inputs = sharding.abstract_examples(inputs, mesh)
  return Written(lowered, state, device_bytes(inputs))
