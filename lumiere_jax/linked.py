# SPDX-License-Identifier: Apache-2.0
"""The configuration of weights, and of those that they name beside."""

from collections.abc import Mapping
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any

from lumiere_jax import build
from lumiere_jax.config import (
  Config,
  SamplerConfig,
  ScheduleConfig,
  from_dict,
  overlay,
  told_as,
)
from lumiere_jax.errors import UserError
from lumiere_jax.weights import folder

# What a config file cannot say better than the weights themselves.
_OF_WEIGHTS = ("model", "condition", "diffusion", "data", "train")

# What holds for the conditional model too.
_CHOSEN = (
  "name",
  "sampler",
  "text",
  "style",
  "style_alpha",
  "upscaler",
  "upscaler_sampler",
  "upscaler_windows",
)

_SCHEDULE = tuple(f.name for f in fields(ScheduleConfig))
# What a guide must have in common with its model: the inputs, and the kind of
# output; with a low-resolution clip also how that is brought to it.
_OF_GUIDE = (
  "condition.kind",
  "diffusion.prediction",
  *(f"diffusion.schedule.{name}" for name in _SCHEDULE),
  "text.encoder",
  "text.lower_case",
  "model.encoder_hid_dim",
)
_OF_LOW_RES = (
  "condition.scale",
  "condition.align_corners",
  *(f"condition.schedule.{name}" for name in _SCHEDULE),
)


def weights_config(
  name: str, changes: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
  """The configuration that was saved with the weights, set to use them.

  Args:
    name: of shipped weights, or a weights folder.
    changes: nested fields that take the place of the saved ones: how to sample
      may change. Which network they are of, what it predicts and of what size,
      only the weights know.

  Raises:
    UserError: no such weights, or none named.
  """
  if not name:
    raise UserError(
      "no weights; give --weights=DIR or a --config that names them"
    )
  saved = folder.load_config(folder.resolve(name))
  changes = dict(changes or {})
  if changes.get("weights", name) != name:
    # Those that a config names beside its weights are for no others.
    changes.pop("conditional", None)
  changes = {k: v for k, v in changes.items() if k not in _OF_WEIGHTS}
  # Prompts are new; what training had encoded once does not hold them.
  text = {**changes.get("text", {}), "store": ""}
  return overlay(saved, {**changes, "text": text, "weights": name})


def conditional_config(config: Config, task: str) -> Config:
  """The configuration of what does the tasks in which a part is given.

  What was chosen for the model itself (how to sample, a style) holds there too.

  Raises:
    UserError: there is no such.
  """
  if not config.conditional:
    raise UserError(
      f"task {task!r} needs weights that see what is given, which "
      f"{config.weights!r} has not; give --weights=DIR of such, or "
      "--config.conditional=DIR"
    )
  saved = from_dict(weights_config(config.conditional))
  chosen = {name: getattr(config, name) for name in _CHOSEN}
  return replace(saved, **chosen)


def upscaler_config(config: Config) -> Config:
  """The configuration of what enlarges the clips of a model.

  Raises:
    UserError: there is no such, or it enlarges clips of another size.
  """
  if not config.upscaler:
    raise UserError(
      f"task 'upscale' needs weights that enlarge, {config.weights!r} names "
      "none; give --weights=DIR of such, or --config.upscaler=DIR"
    )
  saved = from_dict(weights_config(config.upscaler))
  if saved.condition.kind != "low_res":
    raise UserError(f"upscaler={config.upscaler!r} enlarges nothing")
  wanted, text = config.data, saved.text
  if text.encoder == config.text.encoder:
    # The same one, loaded once; only how the network was trained is its own.
    own = {name: getattr(text, name) for name in ("lower_case", "max_tokens")}
    text = replace(config.text, **own)
  with (
    told_as("sampler", "upscaler_sampler"),
    told_as("windows", "upscaler_windows"),
  ):
    found = replace(
      saved,
      text=text,
      sampler=config.upscaler_sampler or saved.sampler,
      windows=config.upscaler_windows or saved.windows,
      data=replace(saved.data, num_frames=wanted.num_frames, fps=wanted.fps),
    )
  small = build.material_size(found).h
  if small != wanted.size_px:
    raise UserError(
      f"upscaler={config.upscaler!r} enlarges clips of {small} pixels, "
      f"{config.weights!r} makes some of {wanted.size_px}"
    )
  return found


def guide_config(
  config: Config, sampler: SamplerConfig | None = None
) -> Config | None:
  """The configuration of the network that a sampler pushes away from.

  Args:
    config: of the model, whose clips and windows the guide sees too.
    sampler: other than the config's.

  Returns:
    The guide's, of any size of network; None if the sampler has no guide.

  Raises:
    UserError: no such weights, or they have other inputs, predict something
      else, or cannot see clips of this size.
  """
  sampler = sampler or config.sampler
  if not sampler.autoguided:
    return None
  saved = from_dict(weights_config(sampler.guide))
  what, names = f"sampler.guide={sampler.guide!r}", _OF_GUIDE
  if config.condition.kind == "low_res":
    names += _OF_LOW_RES
  for name in names:
    wanted, found = (attrgetter(name)(cfg) for cfg in (config, saved))
    if found != wanted:
      raise UserError(
        f"{what} has {name}={found!r}, but {config.weights or config.name!r} "
        f"has {wanted!r}: they must be the same"
      )
  data = config.data
  size = {"num_frames": data.num_frames, "size_px": data.size_px}
  try:
    return replace(
      saved,
      sampler=sampler,
      windows=config.windows,
      mesh=config.mesh,
      data=replace(saved.data, **size, segment_frames=0, crop_px=0),
    )
  except UserError as error:
    raise UserError(f"{what}: {error}") from error


def guide_fingerprint(sampler: SamplerConfig) -> str | None:
  """Fingerprint of the guide's weights; None if the sampler has none.

  Raises:
    UserError: no such weights.
  """
  if not sampler.autoguided:
    return None
  return folder.load_info(folder.resolve(sampler.guide)).fingerprint


def style_fingerprint(config: Config) -> str | None:
  """Fingerprint of the style's weights; None if the config names no style.

  Raises:
    UserError: no such style.
  """
  if not config.style:
    return None
  return folder.load_info(build.style_folder(config)).fingerprint
