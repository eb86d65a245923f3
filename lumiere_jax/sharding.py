# SPDX-License-Identifier: Apache-2.0
"""Where arrays lie: the mesh, the batch, and parameters by path rules.

Models know nothing of this. A rule is (regex on the leaf's path, spec); the
first match wins, so more parallelism is more rules, not other code.
"""

import re
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax.sharding import (
  AbstractMesh,
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
)

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree

Rules = Sequence[tuple[str, PartitionSpec]]

# Data parallelism: every device holds the whole state.
REPLICATE: Rules = ((r".*", PartitionSpec()),)


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Returns the mesh of all devices (or those given) along axis "data"."""
  devices = jax.devices() if devices is None else devices
  return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
  """Returns the sharding that splits `axis` (the batch) over the devices."""
  return NamedSharding(mesh, PartitionSpec(*(None,) * axis, "data"))


def check_batch_size(
  batch_size: int, accumulate: int, mesh: Mesh | AbstractMesh
) -> None:
  """Checks that each device gets a whole share of each micro-batch.

  Raises:
    UserError: it does not; the message names sizes that would.
  """
  unit = accumulate * mesh.shape["data"]
  if batch_size % unit:
    near = max(batch_size // unit, 1) * unit
    raise UserError(
      f"train.batch_size={batch_size} cannot be split over "
      f"{mesh.shape['data']} devices and train.accumulate={accumulate}: it "
      f"must be a multiple of {unit}, as {near}, {near + unit} or "
      f"{near + 2 * unit}"
    )


def place_batch(
  batch: Mapping[str, np.ndarray], sharding: NamedSharding
) -> dict[str, jax.Array]:
  """Puts this process's share of a batch on its devices, first axis split."""
  return {
    name: jax.make_array_from_process_local_data(sharding, value)
    for name, value in batch.items()
  }


def shard_tree(
  tree: PyTree, mesh: Mesh | AbstractMesh, rules: Rules = REPLICATE
) -> PyTree:
  """Returns the sharding of every leaf of a tree of arrays or shapes.

  Args:
    tree: arrays or `jax.ShapeDtypeStruct`s.
    mesh: where they shall lie.
    rules: (regex searched in the path "a/b/c", spec); the first match wins.

  Raises:
    UserError: a leaf that no rule matches, or whose shape its rule's spec
      cannot split.
  """

  def shard(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, spec in rules:
      if re.search(pattern, name):
        sharding = NamedSharding(mesh, spec)
        _check_fits(name, leaf.shape, sharding, pattern)
        return sharding
    raise UserError(
      f"no sharding rule matches {name!r}; rules: "
      f"{', '.join(pattern for pattern, _ in rules)}"
    )

  return jax.tree_util.tree_map_with_path(shard, tree)


def place_tree(tree: PyTree, shardings: PyTree) -> PyTree:
  """Copies a tree to its shardings; donating the copy leaves the tree whole."""
  return jax.device_put(tree, shardings, may_alias=False)


def _check_fits(
  name: str, shape: tuple[int, ...], sharding: NamedSharding, pattern: str
) -> None:
  try:
    sharding.shard_shape(shape)
  except ValueError as error:
    raise UserError(
      f"sharding rule {pattern!r} -> {sharding.spec} does not fit {name!r} of "
      f"shape {shape} on mesh {dict(sharding.mesh.shape)}"
    ) from error
