# SPDX-License-Identifier: Apache-2.0
"""The diffusion process and sampler that a diffusers scheduler file tells."""

from collections.abc import Mapping
from typing import Any

from lumiere_jax.config import (
  DiffusionConfig,
  SamplerConfig,
  ScheduleConfig,
  from_dict,
)
from lumiere_jax.errors import UserError

FILE = "scheduler_config.json"

# The defaults of DeepFloyd IF's pipelines: of its base, of its upscalers.
BASE = {"steps": 100, "guidance": 7.0}
UPSCALER = {"steps": 50, "guidance": 4.0}

# Diffusers' own defaults of a DDPMScheduler.
_DEFAULTS = {
  "_class_name": "DDPMScheduler",
  "num_train_timesteps": 1000,
  "beta_start": 1e-4,
  "beta_end": 0.02,
  "beta_schedule": "linear",
  "variance_type": "fixed_small",
  "prediction_type": "epsilon",
  "clip_sample": True,
  "clip_sample_range": 1.0,
  "thresholding": False,
  "dynamic_thresholding_ratio": 0.995,
  "sample_max_value": 1.0,
  "timestep_spacing": "leading",
  "rescale_betas_zero_snr": False,
}
_WORDS = {
  "_class_name": {"DDPMScheduler": "ddpm"},
  "beta_schedule": {"squaredcos_cap_v2": "cosine", "linear": "linear"},
  "prediction_type": {"epsilon": "eps", "sample": "x0", "v_prediction": "v"},
  "variance_type": {
    "fixed_small": "fixed_small",
    "fixed_large": "fixed_large",
    "learned_range": "learned",
  },
}
# Values that our samplers have no setting for.
_FIXED = {"trained_betas": None, "steps_offset": 0, "clip_sample_range": 1.0}


def if_scheduler(out_channels: int, *, upscales: bool) -> dict[str, Any]:
  """IF's fields, where no file tells them.

  Args:
    out_channels: of the network; 6 with learned variance.
    upscales: whether it is one of IF's upscalers.
  """
  return {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range" if out_channels == 6 else "fixed_small",
    "prediction_type": "epsilon",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "sample_max_value": 1.0 if upscales else 1.5,
  }


def process(
  fields: Mapping[str, Any],
) -> tuple[DiffusionConfig, SamplerConfig]:
  """Returns what the network predicts and how IF samples with it.

  Args:
    fields: content of scheduler_config.json, of a DDPMScheduler.

  Raises:
    UserError: a value that is not supported; names the field.
  """
  theirs = _DEFAULTS | dict(fields)
  words = {name: _word(name, theirs) for name in _WORDS}
  for name, value in _FIXED.items():
    if theirs.get(name, value) != value:
      raise UserError(
        f"{name}={theirs[name]!r} is not supported: it must be {value!r}"
      )
  diffusion = {
    "schedule": _schedule(theirs),
    "prediction": words["prediction_type"],
    "variance": words["variance_type"],
  }
  threshold = "static" if theirs["clip_sample"] else "none"
  sampler = {
    "name": words["_class_name"],
    **BASE,
    "spacing": theirs["timestep_spacing"],
    "threshold": "dynamic" if theirs["thresholding"] else threshold,
    "threshold_quantile": theirs["dynamic_thresholding_ratio"],
    "threshold_max": theirs["sample_max_value"],
  }
  return (
    from_dict(diffusion, DiffusionConfig),
    from_dict(sampler, SamplerConfig),
  )


def noise_schedule(fields: Mapping[str, Any]) -> ScheduleConfig:
  """The schedule alone, as of an upscaler's image_noising_scheduler.

  Raises:
    UserError: a schedule that is not supported.
  """
  return from_dict(_schedule(_DEFAULTS | dict(fields)), ScheduleConfig)


def _schedule(theirs: Mapping[str, Any]) -> dict[str, Any]:
  return {
    "name": _word("beta_schedule", theirs),
    "num_train_timesteps": theirs["num_train_timesteps"],
    "beta_start": theirs["beta_start"],
    "beta_end": theirs["beta_end"],
    "zero_terminal_snr": theirs["rescale_betas_zero_snr"],
  }


def _word(name: str, theirs: Mapping[str, Any]) -> str:
  """Our word for the value of a field."""
  value, choices = theirs[name], _WORDS[name]
  if value not in choices:
    raise UserError(
      f"{name}={value!r} is not supported; choices: {', '.join(choices)}"
    )
  return choices[value]
