# SPDX-License-Identifier: Apache-2.0
"""How the devices of a run share the work."""

from dataclasses import dataclass

from lumiere_jax.config.check import check

AXES = ("data", "fsdp", "frames")


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
  """Sizes of the mesh's axes; their product is the number of devices.

  Examples are split over `data` times `fsdp` devices, parameters, their
  average and the optimizer's state over `fsdp`, the time axis of a clip over
  `frames`.

  Attributes:
    data: groups of devices that hold the whole state; 0 takes all devices
      that are left in training, and 1 in sampling.
    fsdp: devices that share the state.
    frames: devices that share a clip.
    slices: groups of devices with a slow network between them (TPU slices):
      the outer part of `data`, so that once a step a gradient crosses it.
  """

  data: int = 0
  fsdp: int = 1
  frames: int = 1
  slices: int = 1

  def __post_init__(self):
    for name in ("fsdp", "frames", "slices"):
      value = getattr(self, name)
      check(value > 0, f"mesh.{name}={value} must be > 0")
    check(self.data >= 0, f"mesh.data={self.data} must be >= 0")
    check(
      self.data % self.slices == 0,
      f"mesh.data={self.data} must be a multiple of mesh.slices={self.slices}",
    )
