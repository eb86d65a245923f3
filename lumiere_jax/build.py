# SPDX-License-Identifier: Apache-2.0
"""The composition root: configuration to objects.

Nothing below this module knows of more than its own part.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lumiere_jax import media, sharding, trees
from lumiere_jax.conditioning.low_res import training_condition
from lumiere_jax.conditioning.mask import Size, draw_masks
from lumiere_jax.conditioning.style import interpolate
from lumiere_jax.conditioning.task import (
  TASKS,
  Given,
  find_task,
  nothing_given,
)
from lumiere_jax.config import Config, SamplerConfig, UNetConfig
from lumiere_jax.diffusion.loss import diffusion_loss
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.inference.asking import WithGuide, kept_feature
from lumiere_jax.inference.generate import Generator
from lumiere_jax.models.sharded import check_frames, make_apply
from lumiere_jax.models.stunet import STUNet, is_input, is_temporal
from lumiere_jax.shapes import Key, PyTree
from lumiere_jax.text.encoder import Encoding
from lumiere_jax.training.step import LossFn
from lumiere_jax.weights import folder


def network_inputs(cfg: UNetConfig, num_tokens: int = 8) -> tuple[Any, ...]:
  """The smallest shapes that the network takes, for tracing its parameters."""
  size = cfg.spatial_stride
  shape = (1, size, size, cfg.in_channels)
  if cfg.temporal is not None:
    shape = (1, cfg.temporal_stride, *shape[1:])
  level = (
    (jax.ShapeDtypeStruct((1,), jnp.float32),)
    if cfg.class_embed_type == "timestep"
    else ()
  )
  return (
    jax.ShapeDtypeStruct(shape, jnp.float32),
    jax.ShapeDtypeStruct((1,), jnp.float32),
    jax.ShapeDtypeStruct((1, num_tokens, cfg.encoder_hid_dim), jnp.float32),
    jax.ShapeDtypeStruct((1, num_tokens), jnp.bool_),
    *level,
  )


def abstract_params(cfg: UNetConfig) -> PyTree:
  """Shapes and types of all parameters; allocates nothing."""
  init = STUNet(cfg).init
  return jax.eval_shape(init, jax.random.key(0), *network_inputs(cfg))["params"]


def init_params(
  cfg: UNetConfig,
  seed: int,
  mesh: Mesh | None = None,
  part: Callable[[str], bool] = lambda path: True,
) -> PyTree:
  """Random parameters, a function of the seed and their paths.

  Args:
    cfg: the network.
    seed: of the random numbers.
    mesh: the devices that they are placed on; None is one.
    part: which parameters, by path; the others are not computed.
  """

  def init() -> PyTree:
    inputs = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), network_inputs(cfg)
    )
    params = STUNet(cfg).init(jax.random.key(seed), *inputs)["params"]
    return trees.split(params, part)[0]

  where = None
  if mesh is not None:
    where = sharding.shard_tree(jax.eval_shape(init), mesh)
  return jax.jit(init, out_shardings=where)()


def load_params(
  name: str, cfg: UNetConfig, mesh: Mesh | None = None
) -> tuple[PyTree, folder.Info]:
  """Parameters of a weights folder (or shipped name) for this network.

  Args:
    name: of the weights.
    cfg: of the network.
    mesh: where they shall lie; None is one device.

  Raises:
    UserError: no such weights, or they are of another network.
  """
  path = folder.resolve(name)
  params, _, info = folder.load(path)
  difference = trees.diff(abstract_params(cfg), params)
  if difference:
    raise UserError(f"weights {name!r} do not fit the network: {difference}")
  return cast_params(params, cfg, mesh), info


def style_folder(cfg: Config) -> Path:
  """Where the weights of the style that the config names lie.

  A style is of stills. What is shipped for weights is there for those too that
  are told as a difference to them.

  Raises:
    UserError: no such style.
  """
  known = {
    name: path
    for name, path in folder.shipped().items()
    if folder.load_config(path)["model"]["temporal"] is None
  }
  for name in (cfg.weights, folder.base_name(cfg.weights)):
    if (shipped := f"{name}_{cfg.style}") in known:
      return known[shipped]
  if Path(cfg.style).is_dir():
    return folder.resolve(cfg.style)
  prefix = f"{name}_"
  names = [n.removeprefix(prefix) for n in known if n.startswith(prefix)]
  raise UserError(
    f"no style {cfg.style!r}: neither a weights folder nor one that is "
    f"shipped for {name!r}{nearest(cfg.style, names)}"
  )


def styled_params(cfg: Config, params: PyTree) -> PyTree:
  """Parameters drawn towards the style that the config names (section 4.1).

  A model that sees what is given keeps its first convolution, which a style
  has for fewer channels.

  Raises:
    UserError: no such style, or it is of another network.
  """
  style, _, _ = folder.load(style_folder(cfg))

  def kept(path: str) -> bool:
    seen = cfg.condition.kind == "mask" and is_input(path)
    return seen or is_temporal(path)

  own, spatial = trees.split(params, kept)
  _, style = trees.split(style, kept)
  return trees.merge(interpolate(spatial, style, cfg.style_alpha), own)


def cast_params(
  params: PyTree, cfg: UNetConfig, mesh: Mesh | None = None
) -> PyTree:
  """Parameters in the type the network keeps them in, where they shall lie."""
  dtype = jnp.dtype(cfg.param_dtype)
  if mesh is None:
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
  params = jax.tree.map(lambda x: x.astype(dtype), params)
  return sharding.place_tree(params, sharding.shard_tree(params, mesh))


def trainable(cfg: Config, params: PyTree) -> tuple[PyTree, PyTree]:
  """Splits parameters into those the stage trains and the frozen ones.

  Raises:
    UserError: no parameter is as train.trainable says.
  """
  if cfg.train.trainable:
    trained, frozen = trees.split(params, cfg.train.trainable)
    if not trained:
      raise UserError(
        f"train.trainable={cfg.train.trainable!r} is in no parameter's path; "
        "--dry_run lists them"
      )
    return trained, frozen
  if cfg.train.stage == "image":
    return params, {}
  if cfg.condition.kind == "mask":
    return trees.split(params, lambda p: is_temporal(p) or is_input(p))
  return trees.split(params, is_temporal)


def check_task(cfg: Config, task: str) -> None:
  """Raises UserError if there is no such task, or the model is not for it."""
  row = find_task(task)
  if row.masked and cfg.condition.kind != "mask":
    raise UserError(
      f"task {task!r} needs a model that sees what is given; "
      f"{cfg.weights or cfg.name!r} does not"
    )
  upscales = cfg.condition.kind == "low_res"
  if row.clip and cfg.model.temporal is None:
    own = "upscale_image" if upscales else "text_to_image"
    raise UserError(
      f"task {task!r} needs a model of clips; {cfg.weights or cfg.name!r} is "
      f"one of images, for task {own!r}"
    )
  if row.upscales != upscales:
    what = (
      "is one that enlarges what another one has made, for task "
      f"{row.enlarged_by!r}"
      if upscales
      else "enlarges nothing"
    )
    raise UserError(f"task {task!r}: {cfg.weights or cfg.name!r} {what}")


def sampling_mesh(cfg: Config) -> Mesh | None:
  """The devices that sample: as many of the first ones as the config says.

  Of this process only: each of several makes clips of its own. None is one
  device.

  Raises:
    UserError: there are not so many, or they cannot share a clip.
  """
  sizes = dataclasses.replace(cfg.mesh, data=cfg.mesh.data or 1)
  wanted, found = sizes.data * sizes.fsdp * sizes.frames, jax.local_devices()
  if wanted > len(found):
    raise UserError(
      f"mesh.data={sizes.data} x mesh.fsdp={sizes.fsdp} x mesh.frames="
      f"{sizes.frames} are {wanted} devices, but there are only {len(found)}"
    )
  if wanted == 1:
    return None
  mesh = sharding.make_mesh(sizes, found[:wanted])
  check_frames(cfg.model, cfg.windows.frames or cfg.data.num_frames, mesh)
  return mesh


def task_model(cfg: Config, task: str) -> UNetConfig:
  """The network as a task calls it: of images without its temporal part."""
  if TASKS[task].clip:
    return cfg.model
  return dataclasses.replace(cfg.model, temporal=None)


def task_params(params: PyTree, task: str) -> PyTree:
  """The parameters of `task_model`, of those of the whole network."""
  return params if TASKS[task].clip else trees.split(params, is_temporal)[1]


def generator(
  cfg: Config,
  task: str,
  sampler: SamplerConfig | None = None,
  mesh: Mesh | None = None,
  guide: Config | None = None,
) -> Generator:
  """The sampling program of a task, one of `conditioning.task.TASKS`.

  Args:
    cfg: of the model.
    task: what to make.
    sampler: other than the config's.
    mesh: where parameters lie; None is one device.
    guide: of the sampler's guide (`linked.guide_config`); its parameters go
      with the model's in a `WithGuide`.

  Raises:
    UserError: as in `check_task`, or there are not so many devices, or the
      sampler cannot reuse what it is to.
  """
  check_task(cfg, task)
  sampler = sampler or cfg.sampler
  wanted, found = cfg.windows.devices, len(jax.local_devices())
  if wanted > found:
    raise UserError(f"windows.devices={wanted}, but there are only {found}")
  model, data = task_model(cfg, task), cfg.data
  shape: tuple[int, ...] = (data.size_px, data.size_px, 3)
  if TASKS[task].clip:
    shape = (data.num_frames, *shape)
  windows = cfg.windows if TASKS[task].clip else None
  apply = make_apply(model, mesh)
  if guide is not None:
    _check_guide(guide, task, mesh)
    apply = WithGuide(apply, make_apply(task_model(guide, task), mesh))
  return Generator(
    apply,
    shape,
    cfg.diffusion,
    sampler,
    windows,
    cfg.condition,
    mesh,
    kept_feature(sampler, model, shape, windows, mesh),
  )


def _check_guide(guide: Config, task: str, mesh: Mesh | None) -> None:
  try:
    check_task(guide, task)
    if mesh is not None and TASKS[task].clip:
      seen = guide.windows.frames or guide.data.num_frames
      check_frames(guide.model, seen, mesh)
  except UserError as error:
    raise UserError(f"sampler.guide={guide.weights!r}: {error}") from error


def clip_size(cfg: Config) -> Size:
  """Frames, height and width of the clips of a model."""
  return Size(cfg.data.num_frames, cfg.data.size_px, cfg.data.size_px)


def material_size(cfg: Config) -> Size:
  """The size of what a model is given: of its clips, before it enlarges."""
  size = clip_size(cfg)
  scale = cfg.condition.scale if cfg.condition.kind == "low_res" else 1
  return Size(size.t, size.h // scale, size.w // scale)


def given_batch(
  cfg: Config, task: str, given: Given | None, count: int
) -> Given | None:
  """What a network is told is given, for each of `count` samples.

  Args:
    cfg: of the model; one that is told of nothing gets None.
    task: one of `conditioning.task.TASKS`.
    given: the same for all; None is nothing.
    count: size of the batch.
  """
  if cfg.condition.kind != "mask":
    return None
  given = given or nothing_given(clip_size(cfg))
  if not TASKS[task].clip:
    given = Given(*(x[0] for x in given))
  return Given(*(np.broadcast_to(x, (count, *x.shape)) for x in given))


def loss_fn(cfg: Config, empty: Encoding, mesh: Mesh | None = None) -> LossFn:
  """The diffusion loss of each example, with captions dropped at random.

  Args:
    cfg: the recipe.
    empty: the encoding of the empty caption.
    mesh: the devices; None is one.

  Raises:
    UserError: the mesh cannot split the clips.
  """
  if mesh is not None:
    check_frames(cfg.model, cfg.data.train_size[0], mesh)
  network = make_apply(cfg.model, mesh)
  schedule = make_schedule(cfg.diffusion.schedule)
  empty_text, empty_mask = empty

  def loss(params: PyTree, batch: Mapping[str, jax.Array], keys: Key):
    def split(key):
      noise, caption, dropout, condition = jax.random.split(key, 4)
      dropped = jax.random.bernoulli(caption, cfg.train.caption_dropout)
      return noise, dropped, dropout, condition

    noise_keys, dropped, dropout_keys, condition_keys = jax.vmap(split)(keys)
    text = jnp.where(dropped[:, None, None], empty_text, batch["text"])
    mask = jnp.where(dropped[:, None], empty_mask, batch["mask"])
    text = text.astype(jnp.float32)

    x0 = media.to_float(batch["pixels"])
    level, beside = None, []
    if cfg.condition.kind == "low_res":
      low = training_condition(x0, condition_keys, cfg.condition)
      level, beside = low.level, [low.channels]
    elif cfg.condition.kind == "mask":
      given = draw_masks(condition_keys, x0.shape, cfg.condition.mixture)
      beside = [given * x0, given]

    def output(x, t):
      x = jnp.concatenate([x, *beside], axis=-1)
      return network(params, x, t, text, mask, level, dropout_keys)

    return diffusion_loss(output, x0, noise_keys, schedule, cfg.diffusion)

  return loss
