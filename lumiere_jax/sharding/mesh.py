# SPDX-License-Identifier: Apache-2.0
"""The mesh: which device has which place."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lumiere_jax.config import MeshConfig
from lumiere_jax.errors import UserError

DATA, FSDP, FRAMES = "data", "fsdp", "frames"
# Examples are split over both.
BATCH = (DATA, FSDP)


def resolved(cfg: MeshConfig, num_devices: int) -> MeshConfig:
  """Returns the sizes with `data` as large as the devices allow, if it is 0.

  Raises:
    UserError: the sizes do not make so many devices; the message has some
      that do.
  """
  data = _data(cfg, num_devices)
  if not data:
    told = f"mesh.data={cfg.data}, " if cfg.data else ""
    raise UserError(
      f"{told}mesh.fsdp={cfg.fsdp} and mesh.frames={cfg.frames} do not share "
      f"out {num_devices} devices; {_remedies(cfg, num_devices)}"
    )
  if data % cfg.slices:
    choices = [str(n) for n in range(1, data + 1) if data % n == 0]
    raise UserError(
      f"mesh.slices={cfg.slices} must divide mesh.data={data}, for a slice "
      f"holds whole groups of devices; it can be: {', '.join(choices)}"
    )
  return dataclasses.replace(cfg, data=data)


def _data(cfg: MeshConfig, num_devices: int) -> int:
  """The size of `data`; 0 if the sizes do not make so many devices."""
  inner = cfg.fsdp * cfg.frames
  data = cfg.data or num_devices // inner
  return data if data * inner == num_devices else 0


def _remedies(cfg: MeshConfig, num_devices: int) -> str:
  """The values of each axis that work if nothing else is changed."""
  found = []
  for name in ("data", "fsdp", "frames"):
    values = [
      str(n)
      for n in range(1, num_devices + 1)
      if _data(dataclasses.replace(cfg, **{name: n}), num_devices)
    ]
    if values and getattr(cfg, name):
      found.append(f"mesh.{name} can be: {', '.join(values)}")
  return "; ".join(found) or f"together they must divide {num_devices}"


def make_mesh(
  cfg: MeshConfig | None = None, devices: Sequence[Any] | None = None
) -> Mesh:
  """Returns the mesh of devices with the axes "data", "fsdp" and "frames".

  Neighbours along an axis are neighbours in the network as far as that can be;
  slices meet along the outer part of "data" only.

  Args:
    cfg: its sizes.
    devices: all of the run, or those of a topology; those of JAX if None.

  Raises:
    UserError: the sizes do not make so many devices, or slices.
  """
  devices = jax.devices() if devices is None else devices
  cfg = resolved(cfg or MeshConfig(), len(devices))
  shape = (cfg.data, cfg.fsdp, cfg.frames)
  # Where nobody said so, a gradient would cross the network many times.
  several = devices[0].platform == "tpu" and _groups(devices, "slice_index") > 1
  if cfg.slices > 1 or several:
    placed = _across_slices(cfg, devices)
  else:
    placed = mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  return mesh_of(placed)


def mesh_of(placed: np.ndarray) -> Mesh:
  """The mesh of devices that have their places (data, fsdp, frames)."""
  axes = (*BATCH, FRAMES)
  return Mesh(placed, axes, axis_types=(AxisType.Auto,) * len(axes))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def _across_slices(cfg: MeshConfig, devices: Sequence[Any]) -> np.ndarray:
  """Places devices of several slices; without slices, of several processes."""
  attribute = "slice_index"
  if devices[0].platform != "tpu" and _groups(devices, attribute) == 1:
    attribute = "process_index"
  found = _groups(devices, attribute)
  if found != cfg.slices:
    raise UserError(f"mesh.slices={cfg.slices}, but the devices are of {found}")
  return mesh_utils.create_hybrid_device_mesh(
    (cfg.data // cfg.slices, cfg.fsdp, cfg.frames),
    (cfg.slices, 1, 1),
    devices,
    process_is_granule=attribute == "process_index",
    allow_split_physical_axes=True,
  )


def _groups(devices: Sequence[Any], attribute: str) -> int:
  return len({getattr(device, attribute, 0) for device in devices})
