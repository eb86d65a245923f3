# SPDX-License-Identifier: Apache-2.0
"""Batches on the devices of a mesh, and which examples a process reads."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lumiere_jax.errors import UserError
from lumiere_jax.sharding.mesh import BATCH, FRAMES


def batch_sharding(mesh: Mesh | AbstractMesh, axis: int = 0) -> NamedSharding:
  """Returns the sharding that splits `axis` (the batch) over the devices."""
  return NamedSharding(mesh, PartitionSpec(*(None,) * axis, BATCH))


def clip_sharding(mesh: Mesh | AbstractMesh, axis: int = 0) -> NamedSharding:
  """The same for clips, whose frames, behind `axis`, are split as well."""
  return NamedSharding(mesh, PartitionSpec(*(None,) * axis, BATCH, FRAMES))


def batch_shares(mesh: Mesh | AbstractMesh) -> int:
  """How many parts a batch is split into."""
  return mesh.shape[BATCH[0]] * mesh.shape[BATCH[1]]


def check_batch_size(
  batch_size: int, accumulate: int, mesh: Mesh | AbstractMesh
) -> None:
  """Checks that each device gets a whole share of each micro-batch.

  Raises:
    UserError: it does not; the message names sizes that would.
  """
  unit = accumulate * batch_shares(mesh)
  if batch_size % unit:
    near = max(batch_size // unit, 1) * unit
    raise UserError(
      f"train.batch_size={batch_size} cannot be split over "
      f"{batch_shares(mesh)} devices and train.accumulate={accumulate}: it "
      f"must be a multiple of {unit}, as {near}, {near + unit} or "
      f"{near + 2 * unit}"
    )


def local_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
  """The examples of a batch that this process's devices see, ascending.

  Processes whose devices share a clip read the same ones.
  """
  sharding = batch_sharding(mesh)
  indices = sharding.addressable_devices_indices_map((batch_size,))
  rows = [np.arange(batch_size)[index] for index in indices.values()]
  return np.unique(np.concatenate(rows))


def place_batch(
  batch: Mapping[str, np.ndarray],
  shardings: Mapping[str, NamedSharding] | NamedSharding,
  batch_size: int,
) -> dict[str, jax.Array]:
  """Puts this process's examples of a batch on its devices.

  Args:
    batch: arrays (rows, ...), of the `local_rows`.
    shardings: where they shall lie: all, or each by its name.
    batch_size: examples of the whole batch.
  """
  if isinstance(shardings, NamedSharding):
    shardings = dict.fromkeys(batch, shardings)

  def place(value: np.ndarray, sharding: NamedSharding) -> jax.Array:
    rows = local_rows(sharding.mesh, batch_size)
    place_of = {int(row): i for i, row in enumerate(rows)}

    def part(index: tuple[slice, ...]) -> np.ndarray:
      first = place_of[index[0].start or 0]
      count = len(range(*index[0].indices(batch_size)))
      return value[(slice(first, first + count), *index[1:])]

    shape = (batch_size, *value.shape[1:])
    return jax.make_array_from_callback(shape, sharding, part)

  return {
    name: place(np.asarray(value), shardings[name])
    for name, value in batch.items()
  }
