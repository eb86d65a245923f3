# SPDX-License-Identifier: Apache-2.0
"""Activations by the names that model configurations use."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
  """Returns "gelu" (exact, as IF uses it), "silu" or "none"."""
  if name == "none":
    return lambda x: x
  if name == "gelu":
    return _gelu
  if name == "silu":
    return _silu
  raise ValueError(f"unknown activation {name!r}; choices: gelu, none, silu")


@jax.custom_jvp
def _gelu(x: jax.Array) -> jax.Array:
  return nn.gelu(x, approximate=False)


@_gelu.defjvp
def _gelu_jvp(primals, tangents):
  """The slope of x Phi(x) is Phi(x) + x phi(x).

  Written out, since in `jax.shard_map` jax 0.12 fails at its own: the
  derivative of erf is a polynomial there, of a number that varies over devices
  by coefficients that do not.
  """
  (x,), (dx,) = primals, tangents
  below = 0.5 * jax.lax.erfc(-x * math.sqrt(0.5))
  density = jnp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
  return _gelu(x), (below + x * density) * dx


@jax.custom_jvp
def _silu(x: jax.Array) -> jax.Array:
  """X times its logistic function, as one division.

  XLA computes a product again for everyone who reads it, on CPUs inside of the
  transposition that the weight gradient of the next convolution wants, where it
  takes several times as long; a division it keeps.
  """
  return x / (1 + jnp.exp(-x))


@_silu.defjvp
def _silu_jvp(primals, tangents):
  """Written out: far below zero the quotient's own slope is inf / inf."""
  (x,), (dx,) = primals, tangents
  logistic = jax.nn.sigmoid(x)
  return _silu(x), dx * logistic * (1 + x * (1 - logistic))
