# SPDX-License-Identifier: Apache-2.0
"""What is timed: the network, a training step or sampling of whole clips.

All run what users run, `TrainStep` and `Generator`, on random inputs of the
real sizes.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lumiere_jax import build, sharding
from lumiere_jax.compiling import compiler_options
from lumiere_jax.config import Config
from lumiere_jax.diffusion.multidiffusion import place_windows
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.linked import guide_config
from lumiere_jax.models.sharded import make_apply
from lumiere_jax.planning.account import Account, take_account
from lumiere_jax.planning.task import (
  Task,
  sampling_inputs,
  sampling_params,
  sampling_task,
)
from lumiere_jax.profiling.network import Call, count_network
from lumiere_jax.profiling.work import AS_XLA, forward_flops
from lumiere_jax.shapes import PyTree
from lumiere_jax.stage import abstract_batch, make_stage
from lumiere_jax.training.state import place_state

WHATS = ("forward", "train", "sample")


@dataclass(frozen=True, kw_only=True)
class Subject:
  """Something to time.

  Attributes:
    what: one of WHATS.
    cfg: of the model and the recipe.
    clips: of one run, over all devices.
    frames: of each; 1 of images.
    call: of the network, as one run makes it once or several times.
    mesh: the devices; None is one.
    lower: traces the program that runs.
    start: allocates its inputs; returns what makes one run.
    account: operations of one step of the program, counted by hand.
    params: shapes and types of the network's parameters.
  """

  what: str
  cfg: Config
  clips: int
  frames: int
  call: Call
  mesh: Mesh | None
  lower: Callable[[], jax.stages.Lowered]
  start: Callable[[], Callable[[], Any]]
  account: Account
  params: PyTree

  @property
  def devices(self) -> int:
    return 1 if self.mesh is None else self.mesh.size


def find_subject(what: str, cfg: Config, clips: int) -> Subject:
  """The subject of a configuration; allocates nothing.

  Args:
    what: one of WHATS.
    cfg: of the model and the recipe; of its weights, if it names some, only the
      network is taken.
    clips: at once; in training it is the config's batch size, and 0 here.

  Raises:
    UserError: the devices cannot share the work.
  """
  if what == "train":
    return _training(cfg)
  if what == "sample":
    return _sampling(cfg, clips)
  return _network(cfg, clips)


def random_like(tree: PyTree, seed: int = 0) -> PyTree:
  """Arrays of random numbers of a tree's shapes; masks are true everywhere.

  Args:
    tree: of `jax.ShapeDtypeStruct`, or of arrays, which stay; whatever has a
      sharding lies so.
    seed: of the numbers.
  """
  rng = np.random.default_rng(seed)

  def draw(leaf: Any) -> Any:
    if not isinstance(leaf, jax.ShapeDtypeStruct):
      return leaf
    if leaf.dtype == jnp.bool_:
      made = np.ones(leaf.shape, np.bool_)
    elif jnp.issubdtype(leaf.dtype, jnp.floating):
      made = rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype)
    else:
      made = rng.integers(0, 256, leaf.shape).astype(leaf.dtype)
    return jax.device_put(made, leaf.sharding)

  return jax.tree.map(draw, tree)


def network_inputs(cfg: Config, call: Call) -> tuple[Any, ...]:
  """Shapes and types of one call: x, t, text, mask and, if any, noise level."""
  b, model = call.batch, cfg.model
  frames = () if model.temporal is None else (call.frames,)
  shape = (b, *frames, call.height, call.width, model.in_channels)
  each = jax.ShapeDtypeStruct((b,), jnp.float32)
  text = (b, call.tokens, model.encoder_hid_dim)
  level = (each,) if model.class_embed_type == "timestep" else ()
  return (
    jax.ShapeDtypeStruct(shape, jnp.float32),
    each,
    jax.ShapeDtypeStruct(text, jnp.float32),
    jax.ShapeDtypeStruct(text[:2], jnp.bool_),
    *level,
  )


def random_params(cfg: Config, mesh: Mesh | None = None) -> PyTree:
  """Parameters that let everything through: nothing of them is zero.

  Those that training begins with silence all residual blocks, and compilers
  and processors are quicker with zeros.
  """
  like = build.abstract_params(cfg.model)
  if mesh is not None:
    like = sharding.abstract_tree(like, mesh)
  return _drawn(like)


def _drawn(like: PyTree) -> PyTree:
  def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    name = zlib.crc32(jax.tree_util.keystr(path).encode())
    rng = np.random.default_rng(name)
    made = rng.standard_normal(leaf.shape, np.float32) * 0.02
    return jax.device_put(made.astype(leaf.dtype), leaf.sharding)

  return jax.tree_util.tree_map_with_path(draw, like)


def _network(cfg: Config, clips: int) -> Subject:
  clips = clips or 1
  call = _call(cfg, Task(cfg, "sample"), clips)
  apply = jax.jit(make_apply(cfg.model), compiler_options=compiler_options())
  inputs = network_inputs(cfg, call)
  layers = count_network(cfg.model, call).layers
  nominal = forward_flops(layers)
  params = build.abstract_params(cfg.model)

  def start() -> Callable[[], Any]:
    arrays = random_params(cfg), *random_like(inputs)
    return lambda: apply(*arrays)

  return Subject(
    what="forward",
    cfg=cfg,
    clips=clips,
    frames=call.frames,
    call=call,
    mesh=None,
    lower=lambda: apply.lower(params, *inputs),
    start=start,
    account=Account(
      nominal=nominal,
      as_compiled=forward_flops(layers, AS_XLA),
      model=nominal,
      steps=1,
      evaluations=1,
      equivalent_steps=1.0,
    ),
    params=params,
  )


def _training(cfg: Config) -> Subject:
  task, clips = Task(cfg, "train"), cfg.train.batch_size
  mesh = sharding.make_mesh(cfg.mesh)
  text = (1, cfg.text.max_tokens, cfg.model.encoder_hid_dim)
  empty = np.zeros(text, np.float16), np.zeros(text[:2], np.bool_)
  stage = make_stage(cfg, empty, mesh)

  def start() -> Callable[[], Any]:
    parts = build.trainable(cfg, random_params(cfg, mesh))
    state = place_state(*parts, stage.tx, stage.like)
    batch = jax.tree.map(np.asarray, random_like(abstract_batch(cfg)))

    def run() -> Any:
      nonlocal state
      state, metrics = stage.step(state, batch)
      return state, metrics

    return run

  return Subject(
    what="train",
    cfg=cfg,
    clips=clips,
    frames=task.frames,
    call=_call(cfg, task, clips),
    mesh=mesh,
    lower=lambda: stage.step.lower(stage.like, abstract_batch(cfg, mesh)),
    start=start,
    account=take_account(task, clips, cfg.mesh.frames),
    params=build.abstract_params(cfg.model),
  )


def _sampling(cfg: Config, clips: int) -> Subject:
  mesh = build.sampling_mesh(cfg)
  shares = 1 if mesh is None else sharding.batch_shares(mesh)
  clips = clips or shares
  task = Task(cfg, "sample", clips)
  guide = guide_config(cfg)
  generator = build.generator(cfg, sampling_task(task), mesh=mesh, guide=guide)
  inputs = sampling_inputs(task, clips)
  params = sampling_params(task, mesh)

  def start() -> Callable[[], Any]:
    values = _drawn(params)
    text, negative, given, low = random_like(inputs)
    keys = sample_keys(0, range(clips))
    return lambda: generator(values, text, negative, keys, given=given, low=low)

  led = cfg.sampler.guidance != 1.0
  return Subject(
    what="sample",
    cfg=cfg,
    clips=clips,
    frames=cfg.data.num_frames if task.is_clip else 1,
    call=_call(cfg, task, clips * (2 if led else 1)),
    mesh=mesh,
    lower=lambda: generator.lower(params, *inputs),
    start=start,
    account=take_account(task, clips, cfg.mesh.frames),
    params=params if guide is None else params.main,
  )


def _call(cfg: Config, task: Task, batch: int) -> Call:
  """What the network is given at once."""
  frames, height, width = task.frames, task.size_px, task.size_px
  if task.what == "sample" and task.is_clip:
    size = place_windows(tuple(build.clip_size(cfg)), cfg.windows).size
    frames, height, width = size
  return Call(
    batch=batch,
    frames=frames,
    height=height,
    width=width,
    tokens=cfg.text.max_tokens,
  )
