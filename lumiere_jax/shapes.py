# SPDX-License-Identifier: Apache-2.0
"""Array types and the axis letters used in every signature.

b batch, t frames, h height, w width, c channels (always last), s text tokens,
n attention heads, d width of a head, k windows. Video is `b t h w c`, images
`b h w c`. Pixels are in [-1, 1] inside the program and uint8 at its edges;
`media.py` holds the only conversion.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

PyTree = Any
AnyArray = np.ndarray | Array
Key = jax.Array

Video = Float[Array, "b t h w c"]
Image = Float[Array, "b h w c"]
VideoU8 = UInt8[np.ndarray, "t h w c"]
TextFeatures = Float[Array, "b s d"]
TextMask = Bool[Array, "b s"]

__all__ = [
  "AnyArray",
  "Array",
  "Bool",
  "Float",
  "Image",
  "Int",
  "Key",
  "PyTree",
  "Shaped",
  "TextFeatures",
  "TextMask",
  "UInt8",
  "Video",
  "VideoU8",
]
