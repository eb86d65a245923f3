# SPDX-License-Identifier: Apache-2.0
"""Transformer layers that norm what goes in, as CLIP and VideoMAE have them."""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.shapes import Array, Bool, Float

HIGHEST = jax.lax.Precision.HIGHEST


class Size(NamedTuple):
  """How large the layers are.

  Attributes:
    layers: how many.
    width: of a token.
    heads: that share the width.
    hidden: width inside of the feed-forward part.
  """

  layers: int
  width: int
  heads: int
  hidden: int


class Layers(nn.Module):
  """All layers, one after the other.

  Attributes:
    size: how large they are.
    activation: of the feed-forward part.
    epsilon: of the norms.
    query_bias: whether queries and values have a bias.
    key_bias: whether keys have one.
  """

  size: Size
  activation: Callable[[Array], Array]
  epsilon: float
  query_bias: bool = True
  key_bias: bool = True

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b n d"],
    mask: Bool[Array, "n n"] | None = None,
  ) -> Float[Array, "b n d"]:
    """`mask` is true where a token (the first n) attends to another."""
    for i in range(self.size.layers):
      x = self._layer(f"layer_{i}", x, mask)
    return x

  def _layer(self, name: str, x: Array, mask: Array | None) -> Array:
    size = self.size

    def norm(part: str, value: Array) -> Array:
      return nn.LayerNorm(epsilon=self.epsilon, name=f"{name}_{part}")(value)

    def dense(part: str, width: int, value: Array, bias: bool = True) -> Array:
      return nn.Dense(
        width, use_bias=bias, precision=HIGHEST, name=f"{name}_{part}"
      )(value)

    def heads(part: str, bias: bool) -> Array:
      value = dense(part, size.width, h, bias)
      return value.reshape(*value.shape[:2], size.heads, -1)

    h = norm("attention_norm", x)
    out = nn.dot_product_attention(
      heads("query", self.query_bias),
      heads("key", self.key_bias),
      heads("value", self.query_bias),
      mask=None if mask is None else mask[None, None],
      precision=HIGHEST,
    )
    x = x + dense("out", size.width, out.reshape(x.shape))
    h = norm("mlp_norm", x)
    h = self.activation(dense("expand", size.hidden, h))
    return x + dense("project", size.width, h)


def quick_gelu(x: Array) -> Array:
  """Of CLIP's first weights: x times the logistic function of 1.702 x."""
  return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Array) -> Array:
  """The exact one."""
  return jax.nn.gelu(x, approximate=False)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu}


def causal(tokens: int) -> Bool[Array, "n n"]:
  """Each token attends to itself and those before it."""
  return jnp.tril(jnp.ones((tokens, tokens), bool))
