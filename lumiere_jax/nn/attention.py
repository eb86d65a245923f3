# SPDX-License-Identifier: Apache-2.0
"""Attention: the softmax core and IF's attention to text and image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.norm import group_norm, text_norm
from lumiere_jax.nn.precision import softmax_fp32, types
from lumiere_jax.shapes import Array, Bool, Float


def split_heads(x: jax.Array, head_dim: int) -> jax.Array:
  """(..., n*d) -> (..., n, d)."""
  return x.reshape(*x.shape[:-1], -1, head_dim)


class TextImageAttention(nn.Module):
  """Image tokens attend to text tokens and, unless told not to, themselves.

  IF's added-KV attention: text keys and values stand before those of the
  image, under one softmax. Text is the same for all frames of a clip, so its
  logits are computed from one copy of the keys instead of repeating them.

  Attributes:
    cfg: the network's configuration.
    only_cross_attention: no keys and values from the image.
  """

  cfg: UNetConfig
  only_cross_attention: bool = False

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b *t h w c"],
    text: Float[Array, "b s d"],
    mask: Bool[Array, "b s"] | None = None,
  ) -> Float[Array, "b *t h w c"]:
    cfg, channels = self.cfg, x.shape[-1]
    if cfg.cross_attention_norm == "group_norm":
      text_mask = None
      if mask is not None and cfg.mask_text == "all":
        text_mask = jnp.broadcast_to(mask[..., None], text.shape)
      text = text_norm(cfg, "norm_text")(text, mask=text_mask)
    h = group_norm(cfg, "norm", eps=1e-5)(x)
    # (b, f, h*w, c): f frames, 1 for an image.
    h = h.reshape(x.shape[0], -1, x.shape[-3] * x.shape[-2], channels)

    def heads(name: str, value: jax.Array) -> jax.Array:
      value = nn.Dense(channels, name=name, **types(cfg))(value)
      return split_heads(value, cfg.attention_head_dim)

    q = heads("to_q", h) * cfg.attention_head_dim**-0.5
    logits = jnp.einsum("bfqnd,bsnd->bfnqs", q, heads("text_k", text))
    values = heads("text_v", text)
    if mask is not None:
      logits = jnp.where(
        mask[:, None, None, None], logits, jnp.finfo(logits.dtype).min
      )
    if self.only_cross_attention:
      weights = softmax_fp32(logits, q.dtype)
      out = jnp.einsum("bfnqs,bsnd->bfqnd", weights, values)
    else:
      s = logits.shape[-1]
      own = jnp.einsum("bfqnd,bfknd->bfnqk", q, heads("to_k", h))
      weights = softmax_fp32(jnp.concatenate([logits, own], axis=-1), q.dtype)
      out = jnp.einsum("bfnqs,bsnd->bfqnd", weights[..., :s], values)
      out += jnp.einsum(
        "bfnqk,bfknd->bfqnd", weights[..., s:], heads("to_v", h)
      )
    out = out.reshape(h.shape)
    # Zero at the start, as in IF and ADM; imported weights replace it.
    out = nn.Dense(
      channels, kernel_init=nn.initializers.zeros, name="to_out", **types(cfg)
    )(out)
    return x + out.reshape(x.shape)
