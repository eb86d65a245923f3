# SPDX-License-Identifier: Apache-2.0
"""Position and size of a sprite, and its picture in polar coordinates.

Around the centroid a rotation is a circular shift along the angle, and a
change of size disappears when radii are counted in the sprite's own.
"""

import numpy as np
from jaxtyping import Float


def centroids(mask: Float[np.ndarray, "t h w"]) -> Float[np.ndarray, "t 2"]:
  """Centre (x, y) of each mask, in pixels; the frame's centre if empty."""
  mass = mask.sum(axis=(1, 2))
  h, w = mask.shape[1:]
  x = mask.sum(axis=1) @ np.arange(w)
  y = mask.sum(axis=2) @ np.arange(h)
  center = np.stack([x, y], axis=-1) / np.maximum(mass, 1e-6)[:, None]
  middle = np.array([(w - 1) / 2, (h - 1) / 2])
  return np.where(mass[:, None] > 1e-3, center, middle)


def radii(
  mask: Float[np.ndarray, "t h w"], centers: Float[np.ndarray, "t 2"]
) -> Float[np.ndarray, " t"]:
  """Root mean square distance of each mask from its centre, in pixels."""
  h, w = mask.shape[1:]
  dx = np.arange(w) - centers[:, 0, None]
  dy = np.arange(h) - centers[:, 1, None]
  total = (mask.sum(axis=1) * dx**2).sum(axis=1)
  total += (mask.sum(axis=2) * dy**2).sum(axis=1)
  return np.sqrt(total / np.maximum(mask.sum(axis=(1, 2)), 1e-6))


def sprite_radius(mask: Float[np.ndarray, "t h w"]) -> float:
  """Median over a clip of the mask's rms radius, in units of its height."""
  return float(np.median(radii(mask, centroids(mask)))) / mask.shape[1]


def polar_resample(
  images: Float[np.ndarray, "t h w c"],
  centers: Float[np.ndarray, "t 2"],
  rings: Float[np.ndarray, "t r"],
  num_angles: int,
) -> Float[np.ndarray, "t r a c"]:
  """Samples images bilinearly on rings; outside of an image it is zero.

  Args:
    images: what to sample.
    centers: (x, y) of the rings' common centre, pixels.
    rings: their radii, pixels.
    num_angles: samples of a ring, from the x axis towards the y axis.
  """
  t, h, w, c = images.shape
  theta = 2 * np.pi * np.arange(num_angles) / num_angles
  x = centers[:, 0, None, None] + rings[..., None] * np.cos(theta)
  y = centers[:, 1, None, None] + rings[..., None] * np.sin(theta)
  # A frame of zeros around each image catches every sample outside of it.
  padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
  flat = padded.astype(np.float32).reshape(-1, c)
  x = np.clip(x + 1, 0, w + 1 - 1e-3)
  y = np.clip(y + 1, 0, h + 1 - 1e-3)
  x0, y0 = x.astype(np.int64), y.astype(np.int64)
  fx = (x - x0).astype(np.float32)[..., None]
  fy = (y - y0).astype(np.float32)[..., None]
  base = np.arange(t)[:, None, None] * ((h + 2) * (w + 2)) + y0 * (w + 2) + x0
  top = flat[base] * (1 - fx) + flat[base + 1] * fx
  low = flat[base + w + 2] * (1 - fx) + flat[base + w + 3] * fx
  return top * (1 - fy) + low * fy
