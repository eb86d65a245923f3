# SPDX-License-Identifier: Apache-2.0
"""The BERT encoder (Devlin et al., arXiv 1810.04805): features per token.

Post-norm, learned positions, exact gelu, one token type. Products run at the
highest precision, since features of a frozen encoder should not depend on the
kind of machine; in bfloat16 that changes nothing.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn

from lumiere_jax.config.check import check, choice
from lumiere_jax.shapes import Array, Bool, Float, Int

_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True, kw_only=True)
class BertConfig:
  """The encoder's shape; the defaults are all-MiniLM-L6-v2's.

  Attributes:
    vocab_size: entries of the vocabulary.
    max_positions: longest sequence.
    token_types: segments the model was trained with; all tokens are of type 0.
    width: of the features.
    mlp_width: of the hidden layer.
    num_layers: transformer layers.
    num_heads: attention heads of a layer.
    norm_eps: of every layer norm.
    dtype: compute type.
    param_dtype: type of the parameters.
  """

  vocab_size: int = 30522
  max_positions: int = 512
  token_types: int = 2
  width: int = 384
  mlp_width: int = 1536
  num_layers: int = 6
  num_heads: int = 12
  norm_eps: float = 1e-12
  dtype: str = "float32"
  param_dtype: str = "float32"

  def __post_init__(self):
    check(
      self.width % self.num_heads == 0,
      f"bert: num_heads={self.num_heads} must divide width={self.width}",
    )
    for name in ("dtype", "param_dtype"):
      choice(getattr(self, name), ("float32", "bfloat16"), f"bert.{name}")


class Bert(nn.Module):
  """Token ids to the features of the last layer."""

  cfg: BertConfig

  @nn.compact
  def __call__(
    self, ids: Int[Array, "b s"], mask: Bool[Array, "b s"]
  ) -> Float[Array, "b s d"]:
    """Returns the last hidden states.

    Args:
      ids: tokens, framed by [CLS] and [SEP], then padding.
      mask: true where a token is no padding; at least one per row.
    """
    cfg = self.cfg
    x = _embed(cfg, cfg.vocab_size, "word_embed")(ids)
    positions = jnp.arange(ids.shape[1])
    x += _embed(cfg, cfg.max_positions, "position_embed")(positions)
    x += _embed(cfg, cfg.token_types, "token_type_embed")(jnp.zeros_like(ids))
    x = _norm(cfg, "embed_norm")(x)
    for i in range(cfg.num_layers):
      x = BertLayer(cfg, name=f"layer_{i}")(x, mask)
    return x


class BertLayer(nn.Module):
  """Attention and MLP; the norm comes after each residual sum."""

  cfg: BertConfig

  @nn.compact
  def __call__(
    self, x: Float[Array, "b s d"], mask: Bool[Array, "b s"]
  ) -> Float[Array, "b s d"]:
    cfg = self.cfg
    y = BertAttention(cfg, name="attention")(x, mask)
    x = _norm(cfg, "attention_norm")(x + y)
    y = nn.gelu(_dense(cfg, cfg.mlp_width, "mlp_in")(x), approximate=False)
    y = _dense(cfg, cfg.width, "mlp_out")(y)
    return _norm(cfg, "mlp_norm")(x + y)


class BertAttention(nn.Module):
  """Self-attention over the tokens that are no padding."""

  cfg: BertConfig

  @nn.compact
  def __call__(
    self, x: Float[Array, "b s d"], mask: Bool[Array, "b s"]
  ) -> Float[Array, "b s d"]:
    cfg = self.cfg
    heads = (*x.shape[:2], cfg.num_heads, cfg.width // cfg.num_heads)
    q, k, v = (
      _dense(cfg, cfg.width, name)(x).reshape(heads)
      for name in ("query", "key", "value")
    )
    scores = jnp.einsum(
      "bqnd,bknd->bnqk",
      q,
      k,
      precision=_HIGHEST,
      preferred_element_type=jnp.float32,
    )
    scores *= heads[-1] ** -0.5
    # Added, as BERT does it, rather than put in its place.
    scores += jnp.where(mask, 0.0, jnp.finfo(jnp.float32).min)[:, None, None]
    weights = nn.softmax(scores).astype(v.dtype)
    y = jnp.einsum("bnqk,bknd->bqnd", weights, v, precision=_HIGHEST)
    return _dense(cfg, cfg.width, "out")(y.reshape(x.shape))


def _dense(cfg: BertConfig, width: int, name: str) -> nn.Dense:
  return nn.Dense(
    width,
    dtype=cfg.dtype,
    param_dtype=cfg.param_dtype,
    precision=_HIGHEST,
    name=name,
  )


def _embed(cfg: BertConfig, entries: int, name: str) -> nn.Embed:
  return nn.Embed(
    entries,
    cfg.width,
    dtype=cfg.dtype,
    param_dtype=cfg.param_dtype,
    name=name,
  )


def _norm(cfg: BertConfig, name: str) -> nn.LayerNorm:
  """Statistics in float32, by the slower and more stable formula."""
  return nn.LayerNorm(
    epsilon=cfg.norm_eps,
    dtype=cfg.dtype,
    param_dtype=cfg.param_dtype,
    use_fast_variance=False,
    name=name,
  )
