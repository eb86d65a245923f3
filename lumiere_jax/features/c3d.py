# SPDX-License-Identifier: Apache-2.0
"""C3D, the video classifier that the Inception score of UCF101 is made with.

arXiv 1412.0767: eight 3 x 3 x 3 convolutions and three dense layers, for 16
frames of 112 x 112 pixels. The score (arXiv 1611.06624, section 4.2) wants the
weights that were trained on Sports-1M and then on UCF101.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Array, Float, PyTree

CLASSES = 101
FRAMES = 16
SIZE_PX = 112

# Convolutions between poolings; their widths.
_STAGES = (
  (("conv1", 64),),
  (("conv2", 128),),
  (("conv3a", 256), ("conv3b", 256)),
  (("conv4a", 512), ("conv4b", 512)),
  (("conv5a", 512), ("conv5b", 512)),
)


class C3D(nn.Module):
  """Logits of clips of 16 frames of 112 x 112 pixels.

  Attributes:
    classes: 101 of UCF101, 487 of Sports-1M.
  """

  classes: int = CLASSES

  @nn.compact
  def __call__(
    self, pixels: Float[Array, "b t h w 3"]
  ) -> Float[Array, "b classes"]:
    """`pixels` are levels 0 to 255 less the mean of the training clips.

    Raises:
      UserError: clips of another size.
    """
    if pixels.shape[1:] != (FRAMES, SIZE_PX, SIZE_PX, 3):
      raise UserError(
        f"C3D sees {FRAMES} frames of {SIZE_PX} x {SIZE_PX} pixels, not a clip "
        f"of shape {pixels.shape[1:]}"
      )
    highest = jax.lax.Precision.HIGHEST
    x = pixels
    for number, stage in enumerate(_STAGES):
      for name, width in stage:
        conv = nn.Conv(width, (3, 3, 3), precision=highest, name=name)
        x = nn.relu(conv(x))
      # Time is kept by the first; the last pads space at both ends.
      window = (1 if number == 0 else 2, 2, 2)
      beside = (1, 1) if number == len(_STAGES) - 1 else (0, 0)
      x = nn.max_pool(x, window, window, ((0, 0), beside, beside))
    # As the weights are: channels before time and space.
    x = x.transpose(0, 4, 1, 2, 3).reshape(len(x), -1)
    for name in ("fc6", "fc7"):
      x = nn.relu(nn.Dense(4096, precision=highest, name=name)(x))
    return nn.Dense(self.classes, precision=highest, name="fc8")(x)


def abstract_params(classes: int = CLASSES) -> PyTree:
  """Shapes of the parameters."""
  clip = jax.ShapeDtypeStruct((1, FRAMES, SIZE_PX, SIZE_PX, 3), jnp.float32)
  return jax.eval_shape(C3D(classes).init, jax.random.key(0), clip)["params"]
