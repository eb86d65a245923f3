# SPDX-License-Identifier: Apache-2.0
"""The frames of a clip on several devices: who has which, and how they meet.

Everything here is called inside `jax.shard_map` over the axis it names. XLA's
automatic partitioner gives wrong numbers for convolutions along a split axis
(tests/partitioner_test.py), so what crosses a device is written out.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lumiere_jax.config import UNetConfig
from lumiere_jax.shapes import Array, Shaped


@dataclass(frozen=True)
class Split:
  """A mapped mesh axis that a clip's time axis is split over.

  Attributes:
    axis: its name.
    devices: its size.
  """

  axis: str
  devices: int


@dataclass(frozen=True)
class Frames:
  """The frames that a level of the network has.

  Attributes:
    count: of the whole clip.
    split: how they lie on devices; None where each device has all of them.
  """

  count: int
  split: Split | None = None

  def halo(
    self, x: Shaped[Array, "b t *dims"], size: int
  ) -> Shaped[Array, "b t2 *dims"]:
    """Adds `size` frames on either side: the neighbours', zeros at the ends."""
    if self.split is None:
      pad = [(0, 0)] * x.ndim
      pad[1] = (size, size)
      return jnp.pad(x, pad)
    axis, last = self.split.axis, self.split.devices - 1
    # A device that nobody sends to gets zeros: the ends of the clip.
    before = jax.lax.ppermute(
      x[:, x.shape[1] - size :], axis, [(i, i + 1) for i in range(last)]
    )
    after = jax.lax.ppermute(
      x[:, :size], axis, [(i + 1, i) for i in range(last)]
    )
    return jnp.concatenate([before, x, after], axis=1)

  def move(
    self, x: Shaped[Array, "b t *dims"], to: "Frames"
  ) -> Shaped[Array, "b t2 *dims"]:
    """Lays frames of a clip out as another level has them."""
    if self.split == to.split:
      return x
    if to.split is None:
      return jax.lax.all_gather(x, self.split.axis, axis=1, tiled=True)
    return to.own(x)

  def own(self, x: Shaped[Array, "b t *dims"]) -> Shaped[Array, "b t2 *dims"]:
    """This device's part of the frames of a whole clip."""
    if self.split is None:
      return x
    size = x.shape[1] // self.split.devices
    start = jax.lax.axis_index(self.split.axis) * size
    return jax.lax.dynamic_slice_in_dim(x, start, size, axis=1)

  def swap(self, x: Shaped[Array, "b t p c"]) -> Shaped[Array, "b t2 p2 c"]:
    """All frames of some of the pixels, for some frames of all pixels."""
    if self.split is None:
      return x
    if x.shape[2] % self.split.devices:
      return jax.lax.all_gather(x, self.split.axis, axis=1, tiled=True)
    return jax.lax.all_to_all(x, self.split.axis, 2, 1, tiled=True)

  def swap_back(
    self, x: Shaped[Array, "b t p c"], pixels: int
  ) -> Shaped[Array, "b t2 p2 c"]:
    """Inverse of `swap` for so many pixels in all."""
    if self.split is None:
      return x
    if pixels % self.split.devices:
      return self.own(x)
    return jax.lax.all_to_all(x, self.split.axis, 1, 2, tiled=True)


def levels(
  cfg: UNetConfig, count: int, split: Split | None
) -> tuple[Frames, ...]:
  """The frames of each level of a network, finest first.

  A level whose frames the devices cannot share equally, or that would leave
  one with fewer than a convolution looks at beyond it, has all of them on each
  device, and so have the levels below.

  Args:
    cfg: of the network.
    count: frames of the clip.
    split: the devices of a clip.
  """
  found = []
  resample = cfg.temporal is not None and cfg.temporal.resample
  for _ in range(cfg.num_levels):
    if split is not None and not _shared(cfg, count, split.devices):
      split = None
    found.append(Frames(count, split))
    count = count // 2 if resample else count
  return tuple(found)


def possible_splits(cfg: UNetConfig, count: int) -> list[int]:
  """How many devices can share a clip of so many frames."""
  return [n for n in range(1, count + 1) if _shared(cfg, count, n)]


def _shared(cfg: UNetConfig, count: int, devices: int) -> bool:
  reach = cfg.temporal.kernel_size // 2 if cfg.temporal is not None else 0
  return count % devices == 0 and count // devices >= max(reach, 1)
