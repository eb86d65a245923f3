# SPDX-License-Identifier: Apache-2.0
"""Activations by the names that model configurations use."""

from collections.abc import Callable

import flax.linen as nn
import jax


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
  """Returns "gelu" (exact, as IF uses it), "silu" or "none"."""
  if name == "none":
    return lambda x: x
  if name == "gelu":
    return lambda x: nn.gelu(x, approximate=False)
  if name == "silu":
    return nn.silu
  raise ValueError(f"unknown activation {name!r}; choices: gelu, none, silu")
