# SPDX-License-Identifier: Apache-2.0
"""CIELAB, in which equal distances look about equally different."""

import numpy as np
from jaxtyping import Float, UInt8

_LEVELS = np.arange(256) / 255
# IEC 61966-2-1: what the 256 levels of sRGB stand for in linear light.
_LINEAR = np.where(
  _LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4
).astype(np.float32)
# Linear sRGB to CIE XYZ, divided by the white point D65.
_XYZ = np.array(
  [
    [0.4124564, 0.3575761, 0.1804375],
    [0.2126729, 0.7151522, 0.0721750],
    [0.0193339, 0.1191920, 0.9503041],
  ],
  np.float32,
)
_XYZ /= _XYZ.sum(axis=1, keepdims=True)


def rgb_to_lab(rgb: UInt8[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
  """Converts sRGB to CIELAB (D65): lightness 0..100, then a and b.

  Source: CIE 15:2004, section 8.2.1.
  """
  xyz = _LINEAR[np.asarray(rgb)] @ _XYZ.T
  delta = 6 / 29
  f = np.where(
    xyz > delta**3, np.cbrt(xyz), xyz / (3 * delta**2) + np.float32(4 / 29)
  )
  x, y, z = f[..., 0], f[..., 1], f[..., 2]
  return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
