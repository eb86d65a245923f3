# SPDX-License-Identifier: Apache-2.0
"""I3D, the video classifier whose features FVD is made of.

Inception-v1 inflated to 3-D convolutions (arXiv 1705.07750), of RGB frames,
trained on Kinetics-400. FVD (arXiv 1812.01717) takes its 400 logits, the mean
over time of those of two neighbouring time steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.features.norm import ConvNorm
from lumiere_jax.shapes import Array, Float, PyTree

CLASSES = 400
SIZE_PX = 224
MIN_FRAMES = 9  # So that two time steps are left.

# Widths of an Inception block's branches: of the 1 x 1 x 1 convolution, of the
# one before and the 3 x 3 x 3 one, twice, and of that behind the pooling.
_MIXED = {
  "Mixed_3b": (64, 96, 128, 16, 32, 32),
  "Mixed_3c": (128, 128, 192, 32, 96, 64),
  "Mixed_4b": (192, 96, 208, 16, 48, 64),
  "Mixed_4c": (160, 112, 224, 24, 64, 64),
  "Mixed_4d": (128, 128, 256, 24, 64, 64),
  "Mixed_4e": (112, 144, 288, 32, 64, 64),
  "Mixed_4f": (256, 160, 320, 32, 128, 128),
  "Mixed_5b": (256, 160, 320, 32, 128, 128),
  "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Blocks that a pooling stands before: its window and strides, of (t, h, w).
_POOLED = {
  "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
  "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
  "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class ClipFeatures(NamedTuple):
  """What the network sees in clips.

  Attributes:
    pooled: (b, 1024) mean over space and time of the last block.
    logits: (b, 400) of the classes, mean over time.
  """

  pooled: Array
  logits: Array


class I3D(nn.Module):
  """Features of clips of 9 frames or more; 224 x 224 pixels in training.

  Attributes:
    classes: 400 of Kinetics-400, 600 of Kinetics-600.
  """

  classes: int = CLASSES

  @nn.compact
  def __call__(self, pixels: Float[Array, "b t h w 3"]) -> ClipFeatures:
    """`pixels` lie in [-1, 1]."""
    x = _Unit(64, (7, 7, 7), stride=2, name="Conv3d_1a_7x7")(pixels)
    x = _max_pool(x, (1, 3, 3), (1, 2, 2))
    x = _Unit(64, (1, 1, 1), name="Conv3d_2b_1x1")(x)
    x = _Unit(192, (3, 3, 3), name="Conv3d_2c_3x3")(x)
    for name, widths in _MIXED.items():
      if name in _POOLED:
        x = _max_pool(x, *_POOLED[name])
      x = _Mixed(widths, name=name)(x)
    window = (2, *x.shape[2:4])
    pooled = nn.avg_pool(x, window, (1, 1, 1), "VALID")
    logits = nn.Dense(
      self.classes, precision=jax.lax.Precision.HIGHEST, name="logits"
    )(pooled)
    return ClipFeatures(
      pooled.mean(axis=(1, 2, 3)), logits.mean(axis=(1, 2, 3))
    )


class _Unit(nn.Module):
  """Convolution, norm, ReLU."""

  channels: int
  kernel: Sequence[int]
  stride: int = 1

  @nn.compact
  def __call__(self, x: Array) -> Array:
    norm = ConvNorm(self.channels, self.kernel, self.stride, name="conv_norm")
    return nn.relu(norm(x))


class _Mixed(nn.Module):
  """An Inception block: four branches side by side."""

  widths: Sequence[int]

  @nn.compact
  def __call__(self, x: Array) -> Array:
    w0, w1a, w1b, w2a, w2b, w3 = self.widths

    def unit(name, width, size):
      return _Unit(width, (size,) * 3, name=name)

    pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
    branches = (
      unit("b0", w0, 1)(x),
      unit("b1b", w1b, 3)(unit("b1a", w1a, 1)(x)),
      unit("b2b", w2b, 3)(unit("b2a", w2a, 1)(x)),
      unit("b3b", w3, 1)(pooled),
    )
    return jnp.concatenate(branches, axis=-1)


def _max_pool(
  x: Array, window: tuple[int, int, int], strides: tuple[int, int, int]
) -> Array:
  # The original pads with zeros, which nothing behind a ReLU is below.
  return nn.max_pool(x, window, strides, "SAME")


def abstract_params(classes: int = CLASSES) -> PyTree:
  """Shapes of the parameters."""
  clip = jax.ShapeDtypeStruct((1, 16, SIZE_PX, SIZE_PX, 3), jnp.float32)
  return jax.eval_shape(I3D(classes).init, jax.random.key(0), clip)["params"]
