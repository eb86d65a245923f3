# SPDX-License-Identifier: Apache-2.0
"""How different frames look to a network that was trained to tell objects.

As LPIPS (arXiv 1801.03924, eq. 1) with all weights of its channels 1, and on
another network: its numbers are not to be compared with those of LPIPS.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from lumiere_jax.errors import UserError
from lumiere_jax.features.efficientnet import (
  EfficientNetLite0,
  abstract_params,
)
from lumiere_jax.shapes import Array, Float, PyTree
from lumiere_jax.weights import folder

_KIND = "efficientnet-lite0"
_TINY = 1e-10


class FeatureDistance:
  """Distance of clips in the features of EfficientNet-Lite0.

  In each of the maps of five resolutions every pixel's features are brought to
  length 1; the distance is the squared difference, summed over channels,
  averaged over pixels and frames, summed over maps.

  Attributes:
    fingerprint: of the network's weights.
  """

  def __init__(self, params: PyTree, fingerprint: str):
    """Wraps loaded parameters; `FeatureDistance.load` is the usual way."""
    self.fingerprint = fingerprint
    self._params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)

  @classmethod
  def load(cls, path: str) -> "FeatureDistance":
    """Loads a folder that `import_weights --from=efficientnet-lite0` wrote.

    Raises:
      UserError: there is none, or it holds other weights.
    """
    params, config, info = folder.load(Path(path))
    kind = config.get("features", {}).get("kind")
    wanted = jax.tree.map(lambda x: x.shape, abstract_params())
    if kind != _KIND or jax.tree.map(lambda x: x.shape, params) != wanted:
      raise UserError(
        f"{path} holds no feature network; import_weights --from={_KIND} "
        "makes a folder of one"
      )
    return cls(params, info.fingerprint)

  def __call__(
    self,
    clip: UInt8[np.ndarray, "t h w 3"],
    other: UInt8[np.ndarray, "t h w 3"],
  ) -> float:
    """Mean distance of a clip's frames to those of the other."""
    return float(_distance(self._params, clip, other).mean())


@jax.jit
def _distance(params: PyTree, a: Array, b: Array) -> Float[Array, " t"]:
  """Frame by frame: the memory of one frame's features."""

  def frame(pair: tuple[Array, Array]) -> Array:
    pixels = jnp.stack(pair).astype(jnp.float32) / 127.5 - 1
    taps = EfficientNetLite0().apply({"params": params}, pixels).taps
    return sum(
      jnp.square(_unit(x)[0] - _unit(x)[1]).sum(-1).mean() for x in taps
    )

  return jax.lax.map(frame, (a, b))


def _unit(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
  length = jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True))
  return x / (length + _TINY)
