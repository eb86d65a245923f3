# SPDX-License-Identifier: Apache-2.0
"""From the material of a cascade's last stage to that of its first."""

from dataclasses import replace

import numpy as np

from lumiere_jax.conditioning.low_res import WITHIN, blocks
from lumiere_jax.conditioning.task import Material
from lumiere_jax.shapes import UInt8


def reduced(material: Material, scale: int) -> Material:
  """Material of a clip that is `scale` times lower and narrower.

  Pixels are means of blocks. A block of the region that is to be generated in
  any of its pixels is generated whole, so that what is given of the small clip
  is known from the large one.

  Args:
    material: as large as the enlarged clip.
    scale: how many times the clip is enlarged.
  """
  pixels = {
    name: _mean(value, scale)
    for name in ("image", "last_image", "video")
    if (value := getattr(material, name)) is not None
  }
  region = material.region
  if region is not None:
    region = blocks(region, scale).max(axis=WITHIN)
  return replace(material, **pixels, region=region)


def _mean(
  pixels: UInt8[np.ndarray, "*t h w c"], scale: int
) -> UInt8[np.ndarray, "*t low_h low_w c"]:
  mean = blocks(pixels, scale).mean(axis=WITHIN)
  return np.round(mean).astype(np.uint8)
