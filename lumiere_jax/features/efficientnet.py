# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0, a classifier of ImageNet, for its features of a frame.

Mobile inverted bottlenecks (arXiv 1905.11946; MobileNetV2, 1801.04381) in the
Lite form: ReLU6, and no squeeze-and-excitation. It is measured with, never
trained here: the statistics of its norms are parameters like all others.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.features.norm import ConvNorm
from lumiere_jax.shapes import Array, Float, PyTree

WIDTH = 1280  # of a frame's pooled features
SIZE_PX = 224  # of the frames it was trained on

# Blocks, kernel, stride of the first, expansion, channels.
_STAGES = (
  (1, 3, 1, 1, 16),
  (2, 3, 2, 6, 24),
  (2, 5, 2, 6, 40),
  (3, 3, 2, 6, 80),
  (3, 5, 1, 6, 112),
  (4, 5, 2, 6, 192),
  (1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
# The last stage at each resolution: 1/2, 1/4, 1/8, 1/16, 1/32.
_TAPS = (0, 1, 2, 4, 6)
_MEAN, _SCALE = 127.0, 128.0  # of levels 0..255


class FrameFeatures(NamedTuple):
  """What the network sees in frames.

  Attributes:
    taps: maps (b, h, w, c) of five resolutions, the finest first.
    pooled: (b, 1280) mean of the last map.
  """

  taps: tuple[Array, ...]
  pooled: Array


class EfficientNetLite0(nn.Module):
  """Features of frames of any size.

  The original was trained on 224 x 224 pixels.
  """

  @nn.compact
  def __call__(self, pixels: Float[Array, "b h w 3"]) -> FrameFeatures:
    """`pixels` lie in [-1, 1]."""
    x = ((pixels + 1) * 127.5 - _MEAN) / _SCALE
    x = _relu6(
      ConvNorm(_STEM_CHANNELS, kernel=(3, 3), stride=2, name="stem")(x)
    )
    taps, index = [], 0
    for number, (repeats, kernel, stride, expand, channels) in enumerate(
      _STAGES
    ):
      for i in range(repeats):
        x = _Block(
          channels,
          kernel=kernel,
          stride=stride if i == 0 else 1,
          expand=expand,
          name=f"block_{index}",
        )(x)
        index += 1
      if number in _TAPS:
        taps.append(x)
    x = _relu6(ConvNorm(WIDTH, kernel=(1, 1), name="head")(x))
    return FrameFeatures(tuple(taps), x.mean(axis=(1, 2)))


class _Block(nn.Module):
  """Expands channels, mixes space in each, projects; adds what came in."""

  channels: int
  kernel: int
  stride: int
  expand: int

  @nn.compact
  def __call__(
    self, x: Float[Array, "b h w c"]
  ) -> Float[Array, "b out_h out_w k"]:
    before, width = x, x.shape[-1] * self.expand
    if self.expand > 1:
      x = _relu6(ConvNorm(width, kernel=(1, 1), name="expand")(x))
    x = ConvNorm(
      width,
      kernel=(self.kernel, self.kernel),
      stride=self.stride,
      groups=width,
      name="depthwise",
    )(x)
    x = ConvNorm(self.channels, kernel=(1, 1), name="project")(_relu6(x))
    return x + before if x.shape == before.shape else x


def _relu6(x: Array) -> Array:
  return jnp.clip(x, 0, 6)


def abstract_params() -> PyTree:
  """Shapes of the parameters."""
  frame = jax.ShapeDtypeStruct((1, SIZE_PX, SIZE_PX, 3), jnp.float32)
  return jax.eval_shape(EfficientNetLite0().init, jax.random.key(0), frame)[
    "params"
  ]
