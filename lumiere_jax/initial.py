# SPDX-License-Identifier: Apache-2.0
"""What training starts from: random parameters, or those of other weights."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from lumiere_jax import build, trees
from lumiere_jax.config import Config, differences, from_dict
from lumiere_jax.errors import UserError
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.models.widen import widen_input
from lumiere_jax.shapes import PyTree
from lumiere_jax.weights import folder

# What a training configuration decides itself of an imported network.
_OWN = ("temporal", "dtype", "param_dtype", "remat", "dropout")


def with_imported(cfg: Config) -> Config:
  """The configuration, with the network of the public weights it starts from.

  What a config file knows of a public network may be inferred; what was
  imported with the weights is right. Everything that inflation and training
  add stays as it was.

  Raises:
    UserError: no such weights.
  """
  if not cfg.train.init_from:
    return cfg
  path = folder.resolve(cfg.train.init_from)
  if not folder.load_info(path).source:
    return cfg
  saved = from_dict(folder.load_config(path))
  own = {name: getattr(cfg.model, name) for name in _OWN}
  diffusion = dataclasses.replace(
    cfg.diffusion,
    schedule=saved.diffusion.schedule,
    prediction=saved.diffusion.prediction,
    variance=saved.diffusion.variance,
  )
  return dataclasses.replace(
    cfg,
    model=dataclasses.replace(saved.model, **own),
    condition=saved.condition,
    diffusion=diffusion,
  )


def initial_params(cfg: Config, mesh: Mesh | None = None) -> PyTree:
  """Parameters that training starts from.

  At random, or those of `train.init_from`: weights of the same network, of the
  text-to-image network that this one inflates (section 3.1), of a network that
  inflates this one, or of the network without the inputs of the conditional
  one (section 4.2). The temporal part is of `train.init_temporal_from`, if that
  is given: of other weights, or "new".

  Args:
    cfg: of the run.
    mesh: where they shall lie; None is one device.

  Raises:
    UserError: the weights fit none, or were trained to do another thing.
  """
  if not cfg.train.init_from:
    return build.init_params(cfg.model, cfg.train.seed, mesh)
  loaded, values, _ = folder.load(folder.resolve(cfg.train.init_from))
  saved = from_dict(values)
  _check_same_task(cfg, saved)
  if cfg.train.init_temporal_from:
    loaded = _with_temporal_of(cfg, loaded)

  def new_temporal() -> PyTree:
    return build.init_params(cfg.model, cfg.train.seed, mesh, is_temporal)

  loaded = _grown(cfg, saved, loaded, new_temporal)
  _check_fits(cfg, build.abstract_params(cfg.model), loaded)
  return build.cast_params(loaded, cfg.model, mesh)


def origin(cfg: Config) -> str:
  """Fingerprint of the weights that training starts from; "" is at random.

  Raises:
    UserError: there are no such weights.
  """
  name = cfg.train.init_from
  return folder.load_info(folder.resolve(name)).fingerprint if name else ""


def check_initial(cfg: Config) -> None:
  """Checks `train.init_from` by shapes alone; reads no parameter.

  Raises:
    UserError: as in `initial_params`.
  """
  if not cfg.train.init_from:
    return
  path = folder.resolve(cfg.train.init_from)
  saved = from_dict(folder.load_config(path))
  _check_same_task(cfg, saved)
  with folder.open_leaves(path) as leaves:
    loaded = trees.unflatten(
      {p: jax.ShapeDtypeStruct(v.shape, v.dtype) for p, v in leaves.items()}
    )
  params = build.abstract_params(cfg.model)
  grown = jax.eval_shape(
    lambda loaded, new: _grown(cfg, saved, loaded, lambda: new),
    loaded,
    trees.split(params, is_temporal)[0],
  )
  _check_fits(cfg, params, grown)


def _with_temporal_of(cfg: Config, loaded: PyTree) -> PyTree:
  """The spatial part of one network with the temporal part of another.

  Or with none, which `_grown` then begins anew.
  """
  if cfg.train.init_temporal_from == "new":
    return trees.split(loaded, is_temporal)[1]
  others, values, _ = folder.load(folder.resolve(cfg.train.init_temporal_from))
  _check_same_task(cfg, from_dict(values))
  _, spatial = trees.split(loaded, is_temporal)
  temporal, _ = trees.split(others, is_temporal)
  return trees.merge(spatial, temporal)


def _grown(
  cfg: Config,
  saved: Config,
  loaded: PyTree,
  new_temporal: Callable[[], PyTree],
) -> PyTree:
  """Adapts loaded parameters to the network.

  Args:
    cfg: of the run.
    saved: of the loaded parameters.
    loaded: the parameters.
    new_temporal: makes the temporal part, called only if none was loaded.
  """
  temporal, spatial = trees.split(loaded, is_temporal)
  if cfg.model.temporal is None:
    loaded = spatial
  elif not temporal:
    loaded = trees.merge(spatial, new_temporal())
  if cfg.condition.kind == "mask" and saved.condition.kind == "none":
    loaded = widen_input(loaded, cfg.model)
  return loaded


def _check_fits(cfg: Config, params: PyTree, loaded: PyTree) -> None:
  difference = trees.diff(params, loaded)
  if difference:
    raise UserError(
      f"train.init_from={cfg.train.init_from!r} does not fit the network: "
      f"{difference}"
    )


def _check_same_task(cfg: Config, saved: Config) -> None:
  """What shapes do not tell: frozen layers go on meaning what they meant."""
  other = [
    f"{name}={now!r}, there {then!r}"
    for name, then, now in differences(_task(saved), _task(cfg))
  ]
  if other:
    raise UserError(
      f"train.init_from={cfg.train.init_from!r} was trained with other "
      f"settings: {'; '.join(other)}"
    )


def _task(cfg: Config) -> dict[str, Any]:
  """The settings that give trained parameters of given shapes their meaning."""
  low_res = {
    name: getattr(cfg.condition, name)
    for name in ("scale", "align_corners", "schedule")
    if cfg.condition.kind == "low_res"
  }
  return {
    "model": {
      name: getattr(cfg.model, name)
      for name in (
        "attention_head_dim",
        "addition_embed_heads",
        "only_cross",
        "mid_block_only_cross_attention",
        "cross_attention_norm",
        "norm_num_groups",
        "norm_eps",
        "act_fn",
        "time_embedding_act_fn",
        "resnet_skip_time_act",
        "resnet_out_scale_factor",
        "mid_block_scale_factor",
        "patch_size",
        "mask_text",
      )
    },
    "diffusion": {
      "prediction": cfg.diffusion.prediction,
      "schedule": dataclasses.asdict(cfg.diffusion.schedule),
    },
    "condition": low_res,
    "text": {"encoder": cfg.text.encoder},
  }
