# SPDX-License-Identifier: Apache-2.0
"""VideoMAE's encoder: features that see movement better than I3D's do.

A vision transformer over patches of two frames (arXiv 2203.12602, 2303.16727).
That Frechet distances of such features depend less on content than FVD does is
arXiv 2404.12391.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax.features.transformer import (
  ACTIVATIONS,
  HIGHEST,
  Layers,
  Size,
)
from lumiere_jax.shapes import Array, Float, PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoMAEConfig:
  """The size of the encoder; that of ViT-B if not given.

  Attributes:
    layers, width, heads, hidden: of the transformer.
    image_px: height and width of a frame.
    patch_px: of a patch.
    tubelet: frames of a patch.
    frames: of a clip.
    activation: of the feed-forward parts, "gelu".
    epsilon: of the norms.
    qkv_bias: whether queries and values have one.
    mean_pooling: features are the norm of the tokens' mean; the mean of their
      norms otherwise.
  """

  layers: int = 12
  width: int = 768
  heads: int = 12
  hidden: int = 3072
  image_px: int = 224
  patch_px: int = 16
  tubelet: int = 2
  frames: int = 16
  activation: str = "gelu"
  epsilon: float = 1e-12
  qkv_bias: bool = True
  mean_pooling: bool = True


class VideoMAE(nn.Module):
  """Features of clips."""

  cfg: VideoMAEConfig

  @nn.compact
  def __call__(self, pixels: Float[Array, "b t h w 3"]) -> Float[Array, "b d"]:
    """`pixels` are normalised as those of ImageNet are."""
    cfg = self.cfg
    patch = (cfg.tubelet, cfg.patch_px, cfg.patch_px)
    x = nn.Conv(
      cfg.width,
      patch,
      patch,
      padding="VALID",
      precision=HIGHEST,
      name="patches",
    )(pixels)
    x = x.reshape(len(x), -1, cfg.width)
    x = x + _positions(x.shape[1], cfg.width)
    size = Size(cfg.layers, cfg.width, cfg.heads, cfg.hidden)
    x = Layers(
      size,
      ACTIVATIONS[cfg.activation],
      cfg.epsilon,
      query_bias=cfg.qkv_bias,
      key_bias=False,
      name="layers",
    )(x)
    # The norm behind the mean is made by the classifier, with its own epsilon.
    epsilon = 1e-5 if cfg.mean_pooling else cfg.epsilon
    norm = nn.LayerNorm(epsilon=epsilon, name="norm")
    if cfg.mean_pooling:
      return norm(x.mean(axis=1))
    return norm(x).mean(axis=1)


def _positions(tokens: int, width: int) -> Float[np.ndarray, "n d"]:
  """Sines at even places and cosines at odd ones (arXiv 1706.03762)."""
  place = np.arange(width)
  angles = np.arange(tokens)[:, None] / 10000 ** (2 * (place // 2) / width)
  return np.where(place % 2, np.cos(angles), np.sin(angles)).astype(np.float32)


def abstract_params(cfg: VideoMAEConfig) -> PyTree:
  """Shapes of the parameters."""
  shape = (1, cfg.frames, cfg.image_px, cfg.image_px, 3)
  clip = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(VideoMAE(cfg).init, jax.random.key(0), clip)["params"]
