# SPDX-License-Identifier: Apache-2.0
"""The configuration of weights, and of those that they name beside."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lumiere_jax import build
from lumiere_jax.config import Config, from_dict, overlay, told_as
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


def style_fingerprint(config: Config) -> str | None:
  """Fingerprint of the style's weights; None if the config names no style.

  Raises:
    UserError: no such style.
  """
  if not config.style:
    return None
  return folder.load_info(build.style_folder(config)).fingerprint
