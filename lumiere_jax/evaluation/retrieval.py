# SPDX-License-Identifier: Apache-2.0
"""Which object a clip shows: nearest neighbours in a gallery of real frames.

The descriptor is made by hand and fixed: the sprite's polar picture around
its centroid, so that place and size do not matter and a rotation is a shift.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.foreground import Foreground, segment
from lumiere_jax.evaluation.polar import (
  centroids,
  polar_resample,
  radii,
  sprite_radius,
)

Clip = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True, kw_only=True)
class DescriptorConfig:
  """The descriptor's parameters, written beside every result.

  Attributes:
    name: of the descriptor.
    version: rises with every change of its numbers.
    rings: radii at which the picture is sampled.
    max_radius: the outermost, in rms radii of the mask.
    angles: samples of a ring, which are also the rotations tried.
    color_weight: of CIELAB (in hundreds, neutral grey where the background
      shows), against 1 for the mask.
    gradient_weight: of the lightness's steps along the rings and the spokes,
      which turn with the sprite.
    frames_per_clip: evenly spaced frames of a clip, each weighted with the
      root of its mask's area.
    gallery_frames: the same of a clip in the gallery.
  """

  name: str = "polar-lab-gradient"
  version: int = 1
  rings: int = 10
  max_radius: float = 2.2
  angles: int = 24
  color_weight: float = 2.0
  gradient_weight: float = 2.0
  frames_per_clip: int = 8
  gallery_frames: int = 8


def describe(
  foreground: Foreground, config: DescriptorConfig
) -> Float[np.ndarray, "t a d"]:
  """Unit-norm descriptors of frames; the axis `a` is the angle.

  Args:
    foreground: the frames, taken apart.
    config: the descriptor's parameters.
  """
  mask = foreground.mask
  from_grey = foreground.lab / 100 - np.array([0.5, 0, 0], np.float32)
  lab = from_grey * mask[..., None]
  centers = centroids(mask)
  steps = (np.arange(config.rings) + 0.5) / config.rings * config.max_radius
  rings = np.maximum(radii(mask, centers), 1.0)[:, None] * steps
  images = np.concatenate([lab, mask[..., None]], axis=-1)
  picture = polar_resample(images, centers, rings, config.angles)
  light = picture[..., 0]
  around = np.roll(light, -1, axis=2) - np.roll(light, 1, axis=2)
  outwards = np.diff(light, axis=1, append=light[:, -1:])
  parts = [
    picture[..., :3] * config.color_weight,
    picture[..., 3:],
    np.stack([around, outwards], axis=-1) * config.gradient_weight,
  ]
  # Outer rings stand for more pixels.
  described = np.concatenate(parts, axis=-1) * np.sqrt(steps)[:, None, None]
  described = described.swapaxes(1, 2).reshape(len(mask), config.angles, -1)
  norm = np.sqrt((described**2).sum(axis=(1, 2), keepdims=True))
  return (described / np.maximum(norm, 1e-6)).astype(np.float32)


def spaced_frames(num_frames: int, count: int) -> list[int]:
  """The middles of `count` equal parts of a clip."""
  return [int((i + 0.5) * num_frames / count) for i in range(count)]


class Gallery:
  """Descriptors of real frames of every object, to find the nearest in."""

  def __init__(
    self,
    clips: Iterable[tuple[Clip, str] | tuple[Clip, str, float | None]],
    config: DescriptorConfig | None = None,
  ):
    """Describes real clips.

    Args:
      clips: uint8 (t, h, w, 3), the object's name, and, if it is known and
        stays the same, the size the object is drawn with (any unit); best
        several of each object, on different backgrounds and in different
        phases.
      config: the descriptor's parameters.

    Raises:
      UserError: fewer than two objects.
    """
    self.config = config or DescriptorConfig()
    entries, owners = [], []
    drawn: dict[str, list[float]] = {}
    for clip, name, *scale in clips:
      picks = spaced_frames(len(clip), self.config.gallery_frames)
      foreground = segment(clip[picks])
      if scale and scale[0]:
        radius = sprite_radius(foreground.mask) / scale[0]
        drawn.setdefault(name, []).append(radius)
      described = describe(foreground, self.config)
      entries.append(described.reshape(len(picks), -1))
      owners += [name] * len(picks)
    self.objects = tuple(sorted(set(owners)))
    self._radii = {name: float(np.median(r)) for name, r in drawn.items()}
    if len(self.objects) < 2:
      raise UserError(f"a gallery needs two objects, got {self.objects}")
    order = np.argsort(owners, kind="stable")
    self._entries = np.concatenate(entries)[order]
    owner_index = np.searchsorted(self.objects, np.asarray(owners)[order])
    self._starts = np.searchsorted(owner_index, np.arange(len(self.objects)))

  def describe_protocol(self) -> dict[str, Any]:
    """What has to be known to repeat a retrieval with this gallery."""
    return {
      "descriptor": asdict(self.config),
      "similarity": "cosine, highest over rotations and gallery frames of an "
      "object, averaged over the clip's frames",
      "gallery_objects": len(self.objects),
      "gallery_frames": len(self._entries),
    }

  def scales(self, foreground: Foreground) -> dict[str, float]:
    """The size that each object would be drawn with if the clip shows it.

    Of the objects of which it is known, by their rms radius.
    """
    radius = sprite_radius(foreground.mask)
    return {name: radius / max(r, 1e-6) for name, r in self._radii.items()}

  def similarities(
    self, foreground: Foreground
  ) -> Float[np.ndarray, " objects"]:
    """Similarity, -1..1, of a clip to each of `objects`."""
    config = self.config
    picks = spaced_frames(len(foreground.mask), config.frames_per_clip)
    foreground = foreground.frames(picks)
    described = describe(foreground, config)
    turned = np.stack(
      [np.roll(described, shift, axis=1) for shift in range(config.angles)]
    )
    turned = turned.reshape(config.angles * len(picks), -1)
    match = turned @ self._entries.T
    match = np.maximum.reduceat(match, self._starts, axis=1)
    match = match.reshape(config.angles, len(picks), -1).max(axis=0)
    weights = np.sqrt(foreground.mask.sum(axis=(1, 2))) + 1e-6
    return weights @ match / weights.sum()

  def rank(self, foreground: Foreground) -> list[str]:
    """The objects, most similar first."""
    order = np.argsort(-self.similarities(foreground), kind="stable")
    return [self.objects[i] for i in order]
