# SPDX-License-Identifier: Apache-2.0
"""Normalisations whose statistics never mix frames or padding tokens.

Flax's group norm by default reduces over every axis but the first, time
included, and takes the fast variance, which cancels; both are pinned here,
once. Statistics are fp32 in any compute type.
"""

import flax.linen as nn
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.precision import types


def group_norm(
  cfg: UNetConfig, name: str, eps: float | None = None
) -> nn.GroupNorm:
  """Group norm of (..., h, w, c) over (h, w, channel group) of one frame.

  Args:
    cfg: the network's configuration.
    name: of the module.
    eps: other than `cfg.norm_eps`; diffusers fixes 1e-5 before attention.
  """
  return nn.GroupNorm(
    num_groups=cfg.norm_num_groups,
    epsilon=cfg.norm_eps if eps is None else eps,
    reduction_axes=(-3, -2, -1),
    use_fast_variance=False,
    name=name,
    **types(cfg),
  )


def text_norm(cfg: UNetConfig, name: str) -> nn.GroupNorm:
  """Group norm of (b, s, d) over (s, channel group): IF's `norm_cross`.

  Called with `mask=`, padding tokens do not enter the statistics. Groups and
  epsilon are fixed in diffusers, whatever the other norms have.
  """
  return nn.GroupNorm(
    num_groups=32,
    epsilon=1e-5,
    reduction_axes=(-2, -1),
    use_fast_variance=False,
    name=name,
    **types(cfg),
  )


def layer_norm(
  name: str, dtype: jnp.dtype, param_dtype: jnp.dtype
) -> nn.LayerNorm:
  """Layer norm over the last axis."""
  return nn.LayerNorm(
    epsilon=1e-5,
    use_fast_variance=False,
    dtype=dtype,
    param_dtype=param_dtype,
    name=name,
  )
