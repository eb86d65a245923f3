# SPDX-License-Identifier: Apache-2.0
"""The composition root: configuration to objects.

Nothing below this module knows of more than its own part.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import media, trees
from lumiere_jax.conditioning.low_res import training_condition
from lumiere_jax.conditioning.mask import Size, draw_masks
from lumiere_jax.conditioning.style import interpolate
from lumiere_jax.conditioning.task import (
  TASKS,
  Given,
  find_task,
  nothing_given,
)
from lumiere_jax.config import (
  Config,
  SamplerConfig,
  TextConfig,
  UNetConfig,
)
from lumiere_jax.data import loader
from lumiere_jax.diffusion.loss import diffusion_loss
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.inference.generate import Generator
from lumiere_jax.models.stunet import STUNet, is_input, is_temporal
from lumiere_jax.shapes import Key, PyTree
from lumiere_jax.text.encoder import (
  Encoder,
  Shardings,
  TextEncoder,
  load_minilm,
  restore_encoder,
)
from lumiere_jax.text.store import TextStore
from lumiere_jax.training.step import LossFn
from lumiere_jax.weights import bert, folder


def text_encoder(cfg: Config, shardings: Shardings | None = None) -> Encoder:
  """Loads the frozen text encoder and checks that it fits the network.

  Args:
    cfg: names the encoder, or a store of captions it has encoded.
    shardings: where its arrays lie; one device if not given.

  Raises:
    UserError: it is not there, or of another kind, or of another width than
      the network's.
  """
  text = cfg.text
  if text.store:
    encoder = _open_store(text)
  elif text.encoder == "minilm":
    encoder = load_minilm(text, bert.load_bert, shardings)
  else:
    encoder = _saved_encoder(text, shardings)
  if encoder.width != cfg.model.encoder_hid_dim:
    raise UserError(
      f"model.encoder_hid_dim={cfg.model.encoder_hid_dim} must be "
      f"{encoder.width}, the width of text.encoder={text.encoder!r}"
    )
  return encoder


def _open_store(text: TextConfig) -> TextStore:
  """Captions that the encoder of the config has encoded."""
  store = TextStore(text.store)
  for name in ("encoder", "lower_case", "max_tokens"):
    if store.info.get(name) != getattr(text, name):
      raise UserError(
        f"text.store={text.store!r} was made with text.{name}="
        f"{store.info.get(name)!r}, the config has {getattr(text, name)!r}"
      )
  return store


def _saved_encoder(
  text: TextConfig, shardings: Shardings | None
) -> TextEncoder:
  """An encoder that import_weights has written."""
  if not text.weights:
    raise UserError(
      f"text.encoder={text.encoder!r} needs its weights: give "
      "--text_encoder=DIR, a folder that import_weights has written with "
      f"--from=hf-{text.encoder}"
    )
  fields = dict(
    folder.load_config(text.weights, of_encoder=True).get("text_encoder", {})
  )
  kind = fields.pop("kind", None)
  if kind != text.encoder:
    what = f"a {kind!r}" if kind else "no text encoder"
    raise UserError(
      f"--text_encoder={text.weights!r} holds {what}, the model was trained "
      f"with text.encoder={text.encoder!r}"
    )
  params, _, _ = folder.load(text.weights)
  return restore_encoder(text, fields, params, shardings)


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


def init_params(cfg: UNetConfig, seed: int) -> PyTree:
  """Random parameters, a function of the seed."""

  def init(key: Key) -> PyTree:
    inputs = jax.tree.map(
      lambda x: jnp.zeros(x.shape, x.dtype), network_inputs(cfg)
    )
    return STUNet(cfg).init(key, *inputs)["params"]

  return jax.jit(init)(jax.random.key(seed))


def load_params(name: str, cfg: UNetConfig) -> tuple[PyTree, folder.Info]:
  """Parameters of a weights folder (or shipped name) for this network.

  Raises:
    UserError: no such weights, or they are of another network.
  """
  path = folder.resolve(name)
  params, _, info = folder.load(path)
  difference = trees.diff(abstract_params(cfg), params)
  if difference:
    raise UserError(f"weights {name!r} do not fit the network: {difference}")
  return cast_params(params, cfg), info


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


def cast_params(params: PyTree, cfg: UNetConfig) -> PyTree:
  """Parameters in the type the network keeps them in."""
  dtype = jnp.dtype(cfg.param_dtype)
  return jax.tree.map(lambda x: jnp.asarray(x, dtype), params)


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


def generator(
  cfg: Config, task: str, sampler: SamplerConfig | None = None
) -> Generator:
  """The sampling program of a task, one of `conditioning.task.TASKS`.

  Raises:
    UserError: as in `check_task`, or there are not so many devices.
  """
  check_task(cfg, task)
  wanted, found = cfg.windows.devices, len(jax.devices())
  if wanted > found:
    raise UserError(f"windows.devices={wanted}, but there are only {found}")
  model, data = cfg.model, cfg.data
  shape: tuple[int, ...] = (data.size_px, data.size_px, 3)
  if not TASKS[task].clip:
    model = dataclasses.replace(model, temporal=None)
  else:
    shape = (data.num_frames, *shape)
  network = STUNet(model)

  def apply(params, *inputs):
    return network.apply({"params": params}, *inputs)

  return Generator(
    apply,
    shape,
    cfg.diffusion,
    sampler or cfg.sampler,
    cfg.windows if TASKS[task].clip else None,
    cfg.condition,
  )


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


class TextBatches:
  """Training batches whose captions are replaced by their encoding.

  Holds "pixels" uint8, "text" (b s d) float16 and "mask" (b s).
  """

  def __init__(self, batches: Any, encoder: Encoder):
    self._batches, self._encoder = batches, encoder
    self.get_state = batches.get_state
    self.set_state = batches.set_state

  def __next__(self) -> dict[str, np.ndarray]:
    batch = next(self._batches)
    text, mask = self._encoder.encode([str(c) for c in batch["caption"]])
    return {"pixels": batch["pixels"], "text": text, "mask": mask}


def train_batches(cfg: Config, encoder: Encoder) -> TextBatches:
  """Endless batches of this process's share, all captions encoded at once."""
  batches = loader.make_loader(
    cfg.data,
    stage=cfg.train.stage,
    batch_size=cfg.train.batch_size // jax.process_count(),
    seed=cfg.train.seed,
    shard_index=jax.process_index(),
    shard_count=jax.process_count(),
  )
  # After what a user can get wrong: it takes a minute.
  encoder.prepare(loader.captions(cfg.data))
  return TextBatches(batches, encoder)


def loss_fn(cfg: Config, encoder: Encoder) -> LossFn:
  """The diffusion loss of each example, with captions dropped at random."""
  network = STUNet(cfg.model)
  schedule = make_schedule(cfg.diffusion.schedule)
  empty_text, empty_mask = encoder.empty

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
      return network.apply(
        {"params": params}, x, t, text, mask, level, dropout_keys
      )

    return diffusion_loss(output, x0, noise_keys, schedule, cfg.diffusion)

  return loss
