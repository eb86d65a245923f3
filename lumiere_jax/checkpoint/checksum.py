# SPDX-License-Identifier: Apache-2.0
"""Checksums of arrays, computed where they lie."""

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax.shapes import PyTree


def checksums(tree: PyTree) -> dict[str, int]:
  """A number of 32 bits for each leaf, whatever devices it lies on.

  The sum of a hash of each element's bits and place (murmur3's finalizer).
  """
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  values = jax.device_get(_checksums([x for _, x in leaves]))
  names = [jax.tree_util.keystr(path) for path, _ in leaves]
  return dict(zip(names, map(int, values), strict=True))


@jax.jit  # Here, so that it is compiled once, not at each checkpoint.
def _checksums(leaves: list[jax.Array]) -> list[jax.Array]:
  return [_checksum(x) for x in leaves]


def _checksum(x: jax.Array) -> jax.Array:
  unsigned = jnp.dtype(f"uint{8 * x.dtype.itemsize}")
  bits = jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)
  place = jnp.zeros(x.shape, jnp.uint32)
  for axis, size in enumerate(x.shape):
    place = place * np.uint32(size) + jax.lax.broadcasted_iota(
      jnp.uint32, x.shape, axis
    )
  mixed = bits ^ (place * np.uint32(0x9E3779B1))
  for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
    mixed = (mixed ^ (mixed >> shift)) * np.uint32(factor)
  return jnp.sum(mixed, dtype=jnp.uint32)
