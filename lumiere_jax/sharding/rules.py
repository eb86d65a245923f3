# SPDX-License-Identifier: Apache-2.0
"""Where each leaf of a tree of parameters lies, by rules on its path."""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from lumiere_jax.errors import UserError
from lumiere_jax.shapes import AnyArray, Array, PyTree
from lumiere_jax.sharding.mesh import FSDP, replicated

# (regex searched in the path "a/b/c", mesh axes of the last dimensions).
Rules = Sequence[tuple[str, tuple[str | None, ...]]]

# Every device holds everything.
REPLICATE: Rules = ((r"", ()),)
# Of parameters, their average and moments alike, kernels are nearly all. Their
# outputs are split; those of the last convolution are too few.
RULES: Rules = (
  (r"conv_out/kernel$", (FSDP, None)),
  (r"kernel$", (FSDP,)),
  (r"", ()),
)
# Adafactor's moments by row and column lack a dimension of the kernel, and are
# small; so are the kernels whose moments it keeps whole.
STATE_RULES: Rules = (
  (r"^opt_state(/inner)?(/\d+)+/v(_row|_col)?/", ()),
  *RULES,
)


def specs(tree: PyTree, rules: Rules = RULES) -> PyTree:
  """Returns the spec of every leaf of a tree of arrays or shapes.

  Args:
    tree: arrays or `jax.ShapeDtypeStruct`s.
    rules: the first whose regex is found in a leaf's path wins.

  Raises:
    UserError: a leaf that no rule matches, or that has fewer dimensions.
  """

  def spec(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    for pattern, last in rules:
      if re.search(pattern, name):
        missing = leaf.ndim - len(last)
        if missing < 0:
          raise UserError(
            f"sharding rule {pattern!r} -> {last} does not fit {name!r} of "
            f"shape {leaf.shape}"
          )
        return PartitionSpec(*(None,) * missing, *last) if last else _WHOLE
    raise UserError(
      f"no sharding rule matches {name!r}; rules: "
      f"{', '.join(pattern for pattern, _ in rules)}"
    )

  return jax.tree_util.tree_map_with_path(spec, tree)


def shard_tree(
  tree: PyTree, mesh: Mesh | AbstractMesh, rules: Rules = RULES
) -> PyTree:
  """Returns the sharding of every leaf of a tree of arrays or shapes.

  Args:
    tree: arrays or `jax.ShapeDtypeStruct`s.
    mesh: where they shall lie.
    rules: as in `specs`.

  Raises:
    UserError: as `specs`, or a leaf whose shape its spec cannot split.
  """

  def shard(path, leaf, spec):
    sharding = NamedSharding(mesh, spec)
    try:
      sharding.shard_shape(leaf.shape)
    except ValueError:
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      raise UserError(
        f"mesh {dict(mesh.shape)} cannot split {name!r} of shape {leaf.shape} "
        f"as {spec}; mesh.fsdp can be: "
        f"{', '.join(map(str, possible_fsdp(tree, rules)))}"
      ) from None
    return sharding

  return jax.tree_util.tree_map_with_path(shard, tree, specs(tree, rules))


def possible_fsdp(tree: PyTree, rules: Rules = RULES) -> list[int]:
  """How many devices can share a tree: what divides all that is split."""
  sizes = {
    size
    for leaf, spec in zip(
      jax.tree.leaves(tree), jax.tree.leaves(specs(tree, rules)), strict=True
    )
    for size, axis in zip(leaf.shape, spec, strict=False)
    if axis == FSDP
  }
  most = min(sizes, default=1)
  return [n for n in range(1, most + 1) if all(s % n == 0 for s in sizes)]


def abstract_tree(tree: PyTree, mesh: Mesh, rules: Rules = RULES) -> PyTree:
  """`jax.ShapeDtypeStruct`s of a tree that lies as `shard_tree` says.

  Raises:
    UserError: as `shard_tree`.
  """
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    tree,
    shard_tree(tree, mesh, rules),
  )


def place_tree(tree: PyTree, shardings: PyTree) -> PyTree:
  """Copies a tree to its shardings; donating the copy leaves the tree whole.

  Of what a process has whole, as NumPy arrays are, each of its devices gets its
  own part, and nothing is sent to other processes.
  """

  def place(x: AnyArray, sharding: NamedSharding) -> jax.Array:
    if isinstance(x, jax.Array) and x.sharding == sharding:
      return jnp.copy(x)
    host = np.asarray(x)
    return jax.make_array_from_callback(
      x.shape, sharding, lambda index: np.array(host[index])
    )

  return jax.tree.map(place, tree, shardings)


def on_host(tree: PyTree) -> PyTree:
  """NumPy copies of arrays, whole on every process, wherever they lie."""

  def fetch(x: AnyArray) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
      x = jax.device_put(x, replicated(x.sharding.mesh))
    return np.asarray(x)

  return jax.tree.map(fetch, tree)


def varying(tree: PyTree, specs: PyTree, axes: Sequence[str]) -> PyTree:
  """Parameters inside `jax.shard_map`, to be used by devices along `axes`.

  Transposed, gradients are summed over the devices that hold the same part, in
  the parameters' type.
  """

  def cast(x: Array, spec: PartitionSpec) -> Array:
    others = tuple(axis for axis in axes if axis not in spec)
    return jax.lax.pcast(x, others, to="varying")

  return jax.tree.map(cast, tree, specs)


def gathered(
  tree: PyTree, specs: PyTree, dtype: jnp.dtype | None = None
) -> PyTree:
  """Whole parameters out of the parts of devices, inside `jax.shard_map`.

  Transposed, each device gets its part of the sum of all gradients.

  Args:
    tree: this device's parts.
    specs: how they were split.
    dtype: what the parts are sent as; None is their own type.
  """

  def gather(x: Array, spec: PartitionSpec) -> Array:
    for dimension, axis in enumerate(spec):
      if axis is not None:
        x = x if dtype is None else x.astype(dtype)
        x = jax.lax.all_gather(x, axis, axis=dimension, tiled=True)
    return x

  return jax.tree.map(gather, tree, specs)


_WHOLE = PartitionSpec()
