# SPDX-License-Identifier: Apache-2.0
"""CLIP's towers, for how well frames fit a caption, and each other.

arXiv 2103.00020, with a vision transformer. CLIP score (arXiv 2104.08718) is
the cosine of a caption's and a frame's embedding.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.features.transformer import (
  ACTIVATIONS,
  HIGHEST,
  Layers,
  Size,
  causal,
)
from lumiere_jax.shapes import Array, Float, Int, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPConfig:
  """The sizes of both towers; those of ViT-B/32 if not given.

  Attributes:
    embedding: width that both end in.
    vision_layers, vision_width, vision_heads, vision_hidden: of the frames'.
    image_px: height and width of a frame.
    patch_px: of a patch.
    text_layers, text_width, text_heads, text_hidden: of the captions'.
    vocabulary: tokens that there are; the highest ends a caption.
    tokens: of a caption at most.
    activation: "quick_gelu" or "gelu".
    epsilon: of the norms.
  """

  embedding: int = 512
  vision_layers: int = 12
  vision_width: int = 768
  vision_heads: int = 12
  vision_hidden: int = 3072
  image_px: int = 224
  patch_px: int = 32
  text_layers: int = 12
  text_width: int = 512
  text_heads: int = 8
  text_hidden: int = 2048
  vocabulary: int = 49408
  tokens: int = 77
  activation: str = "quick_gelu"
  epsilon: float = 1e-5


class CLIP(nn.Module):
  """Embeddings of frames and captions, in one space."""

  cfg: CLIPConfig

  def setup(self):
    cfg = self.cfg
    self.vision = _Vision(cfg)
    self.text = _Text(cfg)

  def __call__(
    self, pixels: Float[Array, "b h w 3"], tokens: Int[Array, "n s"]
  ) -> tuple[Float[Array, "b d"], Float[Array, "n d"]]:
    """Both embeddings."""
    return self.frames(pixels), self.captions(tokens)

  def frames(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
    """Of frames, of length 1; `pixels` are normalised as CLIP's are."""
    return _unit(self.vision(pixels))

  def captions(self, tokens: Int[Array, "n s"]) -> Float[Array, "n d"]:
    """Of captions, of length 1."""
    return _unit(self.text(tokens))


class _Vision(nn.Module):
  cfg: CLIPConfig

  @nn.compact
  def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
    cfg, width = self.cfg, self.cfg.vision_width
    side = (cfg.patch_px, cfg.patch_px)
    x = nn.Conv(
      width,
      side,
      side,
      padding="VALID",
      use_bias=False,
      precision=HIGHEST,
      name="patches",
    )(pixels)
    x = x.reshape(len(x), -1, width)
    init = nn.initializers.normal(0.02)
    first = self.param("class_embedding", init, (width,))
    x = jnp.concatenate(
      [jnp.broadcast_to(first, (len(x), 1, width)), x], axis=1
    )
    x = x + self.param("positions", init, x.shape[1:])
    x = nn.LayerNorm(epsilon=cfg.epsilon, name="norm_before")(x)
    size = Size(cfg.vision_layers, width, cfg.vision_heads, cfg.vision_hidden)
    x = Layers(size, ACTIVATIONS[cfg.activation], cfg.epsilon, name="layers")(x)
    x = nn.LayerNorm(epsilon=cfg.epsilon, name="norm_after")(x[:, 0])
    return _embedding(cfg, x)


class _Text(nn.Module):
  cfg: CLIPConfig

  @nn.compact
  def __call__(self, tokens: Int[Array, "n s"]) -> Float[Array, "n d"]:
    cfg, width = self.cfg, self.cfg.text_width
    init = nn.initializers.normal(0.02)
    words = self.param("words", init, (cfg.vocabulary, width))
    places = self.param("positions", init, (cfg.tokens, width))
    count = tokens.shape[1]
    x = words[tokens] + places[:count]
    size = Size(cfg.text_layers, width, cfg.text_heads, cfg.text_hidden)
    x = Layers(size, ACTIVATIONS[cfg.activation], cfg.epsilon, name="layers")(
      x, causal(count)
    )
    x = nn.LayerNorm(epsilon=cfg.epsilon, name="norm_after")(x)
    # The token that ends the caption is the highest, and the first such.
    end = tokens.argmax(axis=1)
    return _embedding(cfg, x[jnp.arange(len(x)), end])


def _embedding(cfg: CLIPConfig, x: Array) -> Array:
  return nn.Dense(
    cfg.embedding, use_bias=False, precision=HIGHEST, name="projection"
  )(x)


def _unit(x: Array) -> Array:
  return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def abstract_params(cfg: CLIPConfig) -> PyTree:
  """Shapes of the parameters."""
  frame = jax.ShapeDtypeStruct((1, cfg.image_px, cfg.image_px, 3), jnp.float32)
  caption = jax.ShapeDtypeStruct((1, cfg.tokens), jnp.int32)
  init = CLIP(cfg).init
  return jax.eval_shape(init, jax.random.key(0), frame, caption)["params"]
