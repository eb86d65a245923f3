# SPDX-License-Identifier: Apache-2.0
"""Batches on the devices of a mesh, and which examples a process reads."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import AnyArray, PyTree
from lumiere_jax.sharding.mesh import BATCH, FRAMES, replicated


def batch_sharding(
  mesh: Mesh | AbstractMesh, ndim: int = 1, axis: int = 0
) -> NamedSharding:
  """Returns where an array lies that has a row for each example of a batch.

  Args:
    mesh: the devices.
    ndim: dimensions of the array; the second of five is time, and split too.
    axis: dimensions before the batch's.
  """
  frames = (FRAMES,) if ndim == 5 else ()
  return NamedSharding(mesh, PartitionSpec(*(None,) * axis, BATCH, *frames))


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
  batch: Mapping[str, np.ndarray], mesh: Mesh, batch_size: int
) -> dict[str, jax.Array]:
  """Puts this process's examples of a batch on its devices.

  Args:
    batch: arrays (rows, ...), of the `local_rows`.
    mesh: the devices.
    batch_size: examples of the whole batch.
  """
  place_of = {int(r): i for i, r in enumerate(local_rows(mesh, batch_size))}

  def place(value: np.ndarray) -> jax.Array:
    def part(index: tuple[slice, ...]) -> np.ndarray:
      first, end, _ = index[0].indices(batch_size)
      start = place_of[first]
      return value[(slice(start, start + end - first), *index[1:])]

    return jax.make_array_from_callback(
      (batch_size, *value.shape[1:]), batch_sharding(mesh, value.ndim), part
    )

  return {name: place(np.asarray(value)) for name, value in batch.items()}


def place_examples(tree: PyTree, mesh: Mesh) -> PyTree:
  """Places arrays that every process has, those with a row an example split.

  What has another number of rows, as one for all, is replicated.
  """

  def place(x: AnyArray) -> jax.Array:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      data = place(jax.random.key_data(x))
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    host = np.asarray(x)
    # Each process has all of it, and cuts out what is its devices'.
    return jax.make_array_from_callback(
      x.shape, _example_sharding(x, mesh), lambda index: host[index]
    )

  return jax.tree.map(place, tree)


def abstract_examples(tree: PyTree, mesh: Mesh) -> PyTree:
  """Shapes and types with the shardings of `place_examples`."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=_example_sharding(x, mesh)
    ),
    tree,
  )


def _example_sharding(x: Any, mesh: Mesh) -> NamedSharding:
  if x.shape[0] % batch_shares(mesh):
    return replicated(mesh)
  return batch_sharding(mesh, x.ndim)
