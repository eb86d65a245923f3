# SPDX-License-Identifier: Apache-2.0
"""Embeddings of noise levels, frame positions and pooled text (IF's form)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.activation import activation
from lumiere_jax.nn.norm import layer_norm
from lumiere_jax.nn.precision import softmax_fp32, types
from lumiere_jax.shapes import Array, Bool, Float


def sinusoid(
  positions: Float[Array, " n"], dim: int, max_period: float = 10_000.0
) -> Float[Array, "n {dim}"]:
  """Sinusoidal embedding in fp32, cosines first.

  Args:
    positions: timesteps or frame numbers.
    dim: width; even.
    max_period: of the slowest pair.
  """
  half = dim // 2
  freqs = jnp.exp(-math.log(max_period) * jnp.arange(half) / half)
  angles = positions.astype(jnp.float32)[:, None] * freqs[None, :]
  return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class TimestepEmbedding(nn.Module):
  """Sinusoid and a two-layer network, computed in fp32 at full precision.

  Of timesteps, noise levels or frame numbers.

  Attributes:
    cfg: the network's configuration.
    dim: width of the result.
  """

  cfg: UNetConfig
  dim: int

  @nn.compact
  def __call__(self, t: Float[Array, " b"]) -> Float[Array, "b {self.dim}"]:
    def dense(name: str) -> nn.Dense:
      return nn.Dense(
        self.dim,
        dtype=jnp.float32,
        param_dtype=jnp.dtype(self.cfg.param_dtype),
        precision=jax.lax.Precision.HIGHEST,
        name=name,
      )

    h = dense("linear_1")(sinusoid(t, self.cfg.block_out_channels[0]))
    return dense("linear_2")(activation(self.cfg.act_fn)(h))


class AttentionPooling(nn.Module):
  """Attention of the mean token over all tokens and itself (as CLIP, IF).

  Attributes:
    cfg: the network's configuration.
  """

  cfg: UNetConfig

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b s d"],
    mask: Bool[Array, "b s"] | None = None,
  ) -> Float[Array, "b d"]:
    b, _, d = x.shape
    num_heads = self.cfg.addition_embed_heads
    position = self.param(
      "position",
      nn.initializers.normal(d**-0.5),
      (d,),
      jnp.dtype(self.cfg.param_dtype),
    )
    mean = jnp.mean(x, axis=1, where=None if mask is None else mask[..., None])
    query = (mean + position.astype(x.dtype))[:, None]
    tokens = jnp.concatenate([query, x], axis=1)

    def heads(name: str, value: jax.Array) -> jax.Array:
      value = nn.Dense(d, name=name, **types(self.cfg))(value)
      return value.reshape(b, -1, num_heads, d // num_heads)

    q, k, v = heads("q", query), heads("k", tokens), heads("v", tokens)
    logits = jnp.einsum("bqnd,bknd->bnqk", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
      seen = jnp.concatenate([jnp.ones((b, 1), bool), mask], axis=1)
      logits = jnp.where(
        seen[:, None, None], logits, jnp.finfo(logits.dtype).min
      )
    weights = softmax_fp32(logits, v.dtype)
    return jnp.einsum("bnqk,bknd->bqnd", weights, v).reshape(b, d)


class TextEmbedding(nn.Module):
  """Pooled text: layer norm, attention pooling, projection, layer norm.

  Attributes:
    cfg: the network's configuration.
    dim: width of the result.
    final_norm: whether there is the last layer norm, as in IF. Where what all
      captions share grows in training, the norm shrinks what tells them apart.
  """

  cfg: UNetConfig
  dim: int
  final_norm: bool = True

  @nn.compact
  def __call__(
    self,
    text: Float[Array, "b s d"],
    mask: Bool[Array, "b s"] | None = None,
  ) -> Float[Array, "b {self.dim}"]:
    h = layer_norm("norm1", **types(self.cfg))(text)
    h = AttentionPooling(self.cfg, name="pool")(h, mask)
    h = nn.Dense(self.dim, name="proj", **types(self.cfg))(h)
    return layer_norm("norm2", **types(self.cfg))(h) if self.final_norm else h
