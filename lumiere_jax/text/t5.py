# SPDX-License-Identifier: Apache-2.0
"""The encoder of T5 v1.1 (Raffel et al., arXiv 1910.10683): features per token.

Pre-norm with RMS norms (arXiv 1910.07467), gated gelu (arXiv 2002.05202), no
biases; positions enter only as a bias of the attention scores, which are not
scaled. As in `bert.py` products run at the highest precision. The residual
stream is float32 whatever the compute type: over 24 layers that takes a quarter
off bfloat16's error. float16 is no choice, since T5's MLPs overflow in it.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from lumiere_jax.config.check import check, choice
from lumiere_jax.shapes import Array, Bool, Float, Int

_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True, kw_only=True)
class T5Config:
  """The encoder's shape; the defaults are those of T5 v1.1 XXL, IF's encoder.

  Attributes:
    vocab_size: entries of the vocabulary, unused ones included.
    width: of the features.
    head_width: of an attention head; heads need not add up to `width`.
    mlp_width: of the hidden layer.
    num_layers: transformer layers.
    num_heads: attention heads of a layer.
    num_buckets: classes of relative positions, half of them for each side.
    max_distance: in tokens; what is further away shares the last bucket.
    norm_eps: of every norm.
    dtype: compute type.
    param_dtype: type of the parameters.
  """

  vocab_size: int = 32128
  width: int = 4096
  head_width: int = 64
  mlp_width: int = 10240
  num_layers: int = 24
  num_heads: int = 64
  num_buckets: int = 32
  max_distance: int = 128
  norm_eps: float = 1e-6
  dtype: str = "float32"
  param_dtype: str = "float32"

  def __post_init__(self):
    for name in ("vocab_size", "width", "head_width", "mlp_width"):
      self._check_at_least(name, 1)
    for name in ("num_layers", "num_heads"):
      self._check_at_least(name, 1)
    self._check_at_least("num_buckets", 4)
    self._check_at_least("max_distance", self.num_buckets // 4 + 1)
    check(self.norm_eps > 0, f"t5: norm_eps={self.norm_eps} must be positive")
    for name in ("dtype", "param_dtype"):
      choice(getattr(self, name), ("float32", "bfloat16"), f"t5.{name}")

  def _check_at_least(self, name: str, least: int) -> None:
    value = getattr(self, name)
    check(value >= least, f"t5: {name}={value} must be at least {least}")


class T5Encoder(nn.Module):
  """Token ids to the features after the last norm."""

  cfg: T5Config

  @nn.compact
  def __call__(
    self, ids: Int[Array, "b s"], mask: Bool[Array, "b s"]
  ) -> Float[Array, "b s d"]:
    """Returns the last hidden states.

    Args:
      ids: tokens, ended by </s>, then padding.
      mask: true where a token is no padding; at least one per row.
    """
    cfg = self.cfg
    x = nn.Embed(
      cfg.vocab_size,
      cfg.width,
      dtype=jnp.float32,
      param_dtype=cfg.param_dtype,
      name="token_embed",
    )(ids)
    # Every layer adds the same bias; foreign checkpoints keep it in the first.
    bias = RelativeBias(cfg, name="relative_bias")(ids.shape[1])
    for i in range(cfg.num_layers):
      x = T5Layer(cfg, name=f"layer_{i}")(x, bias, mask)
    return _norm(cfg, "final_norm")(x)


class T5Layer(nn.Module):
  """Attention and MLP, each added to what its norm was taken of."""

  cfg: T5Config

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b s d"],
    bias: Float[Array, "n s s"],
    mask: Bool[Array, "b s"],
  ) -> Float[Array, "b s d"]:
    cfg = self.cfg
    y = _norm(cfg, "attention_norm")(x)
    x += T5Attention(cfg, name="attention")(y, bias, mask)
    y = _norm(cfg, "mlp_norm")(x)
    # The tanh form of gelu, which T5 was trained with.
    gate = nn.gelu(_dense(cfg, cfg.mlp_width, "mlp_gate")(y), approximate=True)
    y = gate * _dense(cfg, cfg.mlp_width, "mlp_in")(y)
    return x + _dense(cfg, cfg.width, "mlp_out")(y)


class T5Attention(nn.Module):
  """Self-attention over the tokens that are no padding."""

  cfg: T5Config

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b s d"],
    bias: Float[Array, "n s s"],
    mask: Bool[Array, "b s"],
  ) -> Float[Array, "b s d"]:
    cfg = self.cfg
    heads = (*x.shape[:2], cfg.num_heads, cfg.head_width)
    inner = cfg.num_heads * cfg.head_width
    q, k, v = (
      _dense(cfg, inner, name)(x).reshape(heads)
      for name in ("query", "key", "value")
    )
    # No 1/sqrt(head_width): T5's initial weights contain it.
    scores = jnp.einsum(
      "bqnd,bknd->bnqk",
      q,
      k,
      precision=_HIGHEST,
      preferred_element_type=jnp.float32,
    )
    lowest = jnp.finfo(jnp.float32).min
    scores = jnp.where(mask[:, None, None], scores + bias, lowest)
    weights = nn.softmax(scores).astype(v.dtype)
    y = jnp.einsum("bnqk,bknd->bqnd", weights, v, precision=_HIGHEST)
    return _dense(cfg, cfg.width, "out")(y.reshape(*x.shape[:2], inner))


class RelativeBias(nn.Module):
  """What the scores of a query and a key gain by where they stand."""

  cfg: T5Config

  @nn.compact
  def __call__(self, num_tokens: int) -> Float[Array, "n s s"]:
    """Returns float32 biases, by head, query and key."""
    cfg = self.cfg
    buckets = relative_buckets(num_tokens, cfg.num_buckets, cfg.max_distance)
    bias = nn.Embed(
      cfg.num_buckets,
      cfg.num_heads,
      dtype=jnp.float32,
      param_dtype=cfg.param_dtype,
      name="table",
    )(buckets)
    return bias.transpose(2, 0, 1)


def relative_buckets(
  num_tokens: int, num_buckets: int, max_distance: int
) -> Int[np.ndarray, "s s"]:
  """Returns the bucket of each pair of a query (row) and a key (column).

  The lower half of the buckets is for keys at or before the query, the upper
  half for keys after it. Within a half of h buckets the first e = h // 2 stand
  for one distance each; distance d from e on goes to

    e + floor((h - e) log(d / e) / log(max_distance / e)),

  at most to the last.

  Args:
    num_tokens: s.
    num_buckets: of both halves.
    max_distance: in tokens.
  """
  half = num_buckets // 2
  by_distance = np.array(
    [_bucket(d, half, max_distance) for d in range(num_tokens)], np.int32
  )
  positions = np.arange(num_tokens, dtype=np.int32)
  offset = positions - positions[:, None]
  return by_distance[abs(offset)] + np.int32(half) * (offset > 0)


def _bucket(distance: int, half: int, max_distance: int) -> int:
  """The bucket of a distance within its half.

  Distances such as 32 or 64 fall on the edge of a bucket. Powers of integers
  put them on the same side everywhere, which a device's logarithm need not.
  """
  exact = half // 2
  if distance < exact:
    return distance
  steps = half - exact
  return exact + sum(
    distance**steps >= max_distance**step * exact ** (steps - step)
    for step in range(1, steps)
  )


def _dense(cfg: T5Config, width: int, name: str) -> nn.Dense:
  return nn.Dense(
    width,
    use_bias=False,
    dtype=cfg.dtype,
    param_dtype=cfg.param_dtype,
    precision=_HIGHEST,
    name=name,
  )


def _norm(cfg: T5Config, name: str) -> nn.RMSNorm:
  """Divides by the root of the mean square, both in float32."""
  return nn.RMSNorm(
    epsilon=cfg.norm_eps,
    dtype=cfg.dtype,
    param_dtype=cfg.param_dtype,
    name=name,
  )
