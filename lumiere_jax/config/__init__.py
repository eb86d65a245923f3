# SPDX-License-Identifier: Apache-2.0
"""Typed, frozen, self-checking configuration of every part of the program.

A `configs/*.py` file returns an `ml_collections.ConfigDict`; `from_dict` turns
it once into a `Config`. Everything below `build.py` sees these values only.
They are hashable, so they can be static arguments of `jax.jit`.
"""

from lumiere_jax.config.check import told_as
from lumiere_jax.config.condition import ConditionConfig, MixtureConfig
from lumiere_jax.config.data import DataConfig, SourceConfig
from lumiere_jax.config.mesh import MeshConfig
from lumiere_jax.config.network import TemporalConfig, UNetConfig
from lumiere_jax.config.parse import (
  differences,
  from_dict,
  overlay,
  override,
  to_dict,
)
from lumiere_jax.config.process import (
  DiffusionConfig,
  SamplerConfig,
  ScheduleConfig,
  WindowsConfig,
)
from lumiere_jax.config.recipe import (
  Config,
  TextConfig,
  TrainConfig,
)

__all__ = [
  "ConditionConfig",
  "Config",
  "DataConfig",
  "DiffusionConfig",
  "MeshConfig",
  "MixtureConfig",
  "SamplerConfig",
  "ScheduleConfig",
  "SourceConfig",
  "TemporalConfig",
  "TextConfig",
  "TrainConfig",
  "UNetConfig",
  "WindowsConfig",
  "differences",
  "from_dict",
  "overlay",
  "override",
  "to_dict",
  "told_as",
]
