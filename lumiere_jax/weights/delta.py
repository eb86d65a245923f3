# SPDX-License-Identifier: Apache-2.0
"""Weights as their difference to others, whole or of low rank.

A tensor "a/b/c" of the difference is stored as one of

  a/b/c@new          what takes the base's place, of whatever shape
  a/b/c@delta        what is added to it
  a/b/c@down, @up    two factors whose product is added (arXiv 2106.09685)

and as nothing where both are equal. Sums are made in float32.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lumiere_jax.errors import UserError

_NEW, _DELTA, _DOWN, _UP = "@new", "@delta", "@down", "@up"


def compress(
  leaves: Mapping[str, Any], base: Mapping[str, Any], rank: int | None
) -> dict[str, np.ndarray]:
  """Tensors that `expand` makes the leaves from, float32.

  Args:
    leaves: by path.
    base: the same of the weights they are told by; what only these have is
      not told of.
    rank: largest rank of a difference; None keeps it whole. Kernels are
      matrices of (everything else, output channels). What would not get
      smaller is kept whole.
  """
  tensors: dict[str, np.ndarray] = {}
  for path, leaf in leaves.items():
    new = np.asarray(leaf, np.float32)
    if path not in base or base[path].shape != new.shape:
      tensors[path + _NEW] = new
      continue
    delta = new - np.asarray(base[path], np.float32)
    if not delta.any():
      continue
    rows, columns = _matrix(delta.shape)
    if rank is None or rank * (rows + columns) >= rows * columns:
      tensors[path + _DELTA] = delta
      continue
    left, values, right = np.linalg.svd(
      delta.reshape(rows, columns), full_matrices=False
    )
    scale = np.sqrt(values[:rank])
    tensors[path + _DOWN] = left[:, :rank] * scale
    tensors[path + _UP] = scale[:, None] * right[:rank]
  return tensors


def expand(
  tensors: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, np.ndarray]:
  """The leaves that `compress` was given, float32, but for its rounding.

  Raises:
    UserError: a tensor does not fit the base.
  """
  leaves = {path: np.asarray(leaf, np.float32) for path, leaf in base.items()}
  for name, tensor in tensors.items():
    path, at, kind = name.rpartition("@")
    value = np.asarray(tensor, np.float32)
    if at + kind == _NEW:
      leaves[path] = value
      continue
    if at + kind == _UP:
      continue
    if path not in leaves:
      raise UserError(f"the difference {name!r} is to nothing in its base")
    if at + kind == _DOWN:
      value = _product(path, value, tensors, leaves[path].shape)
    if value.shape != leaves[path].shape:
      raise UserError(
        f"the difference {name!r} has shape {value.shape}, its base has "
        f"{leaves[path].shape}"
      )
    leaves[path] = leaves[path] + value
  return leaves


def _product(
  path: str,
  down: np.ndarray,
  tensors: Mapping[str, Any],
  shape: tuple[int, ...],
) -> np.ndarray:
  """The difference that two factors stand for."""
  if path + _UP not in tensors:
    raise UserError(f"the difference {path + _DOWN!r} lacks {path + _UP!r}")
  up = np.asarray(tensors[path + _UP], np.float32)
  if (len(down), down.shape[-1], up.shape[-1]) != (
    _matrix(shape)[0],
    len(up),
    _matrix(shape)[1],
  ):
    raise UserError(
      f"the difference {path!r} has factors of {down.shape} and {up.shape}, "
      f"its base has shape {shape}"
    )
  # Product by product, in this order: libraries have one of their own for each
  # kind of processor, and the last bits are part of the fingerprint.
  total = np.zeros((len(down), up.shape[1]), np.float32)
  for column, row in zip(down.T, up, strict=True):
    total += column[:, None] * row
  return total.reshape(shape)


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
  """A kernel as a matrix; a vector has one column."""
  if len(shape) < 2:
    return math.prod(shape), 1
  return math.prod(shape[:-1]), shape[-1]
