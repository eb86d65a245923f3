# SPDX-License-Identifier: Apache-2.0
"""Compute and parameter types, and the softmax that is always fp32."""

import jax
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig


def types(cfg: UNetConfig) -> dict[str, jnp.dtype]:
  """`dtype` (compute) and `param_dtype` keywords of every layer of a net."""
  return {
    "dtype": jnp.dtype(cfg.dtype),
    "param_dtype": jnp.dtype(cfg.param_dtype),
  }


def softmax_fp32(logits: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """Softmax over the last axis in fp32, returned in `dtype`."""
  return jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(dtype)
