# SPDX-License-Identifier: Apache-2.0
"""Parameter trees: nested dictionaries whose leaves have paths "a/b/c".

Leaves may be arrays, abstract arrays or anything with a shape and a dtype
that `np.asarray` reads.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from lumiere_jax.shapes import PyTree

Choice = str | Callable[[str], bool]

_TOLD = 4  # of the leaves that differ


def flatten(tree: PyTree) -> dict[str, Any]:
  """Returns every leaf under its path; `unflatten` inverts it.

  Empty subtrees have no leaf and vanish.
  """
  return traverse_util.flatten_dict(tree, sep="/")


def unflatten(leaves: Mapping[str, Any]) -> PyTree:
  """Returns the nested dictionary of leaves given under paths "a/b/c"."""
  return traverse_util.unflatten_dict(dict(leaves), sep="/")


def merge(base: PyTree, extra: PyTree) -> PyTree:
  """Returns the tree with the leaves of both; `split` inverts it.

  Raises:
    ValueError: a path lies in both, or leads through a leaf of the other.
  """
  first, second = flatten(base), flatten(extra)
  both = (set(first) & _nodes(second)) | (set(second) & _nodes(first))
  if both:
    raise ValueError("both trees have\n" + _lines(both))
  return unflatten(first | second)


def split(tree: PyTree, choice: Choice) -> tuple[PyTree, PyTree]:
  """Returns the tree of the chosen leaves and the tree of the others.

  Args:
    tree: nested dictionary.
    choice: a regular expression, searched for in the path, or a predicate of
      the path.
  """
  chosen = re.compile(choice).search if isinstance(choice, str) else choice
  parts: tuple[dict[str, Any], dict[str, Any]] = {}, {}
  for path, leaf in flatten(tree).items():
    parts[0 if chosen(path) else 1][path] = leaf
  return unflatten(parts[0]), unflatten(parts[1])


def select(tree: PyTree, choice: Choice) -> PyTree:
  """Returns the tree of the chosen leaves only; `choice` as in `split`."""
  return split(tree, choice)[0]


def count(tree: PyTree) -> int:
  """Returns the number of parameters; leaves may be abstract."""
  return sum(math.prod(leaf.shape) for leaf in flatten(tree).values())


def fingerprint(tree: PyTree) -> str:
  """Returns SHA-256 over paths, shapes, types and bytes, whatever the order.

  Reads one leaf at a time.
  """
  digest = hashlib.sha256()
  for path, leaf in sorted(flatten(tree).items()):
    array = np.asarray(leaf, order="C")
    digest.update(f"{path} {array.shape} {array.dtype.name}\n".encode())
    digest.update(array.reshape(-1).view(np.uint8))
  return digest.hexdigest()


def diff(expected: PyTree, actual: PyTree) -> str:
  """Returns in one line which leaves differ in path or shape; "" if none do.

  The first of them, sorted: "- path shape" is missing, "+ path shape" was not
  expected.
  """
  first = {(p, tuple(v.shape)) for p, v in flatten(expected).items()}
  second = {(p, tuple(v.shape)) for p, v in flatten(actual).items()}
  lines = [(*item, "-") for item in first - second]
  lines += [(*item, "+") for item in second - first]
  lines.sort(key=lambda line: (line[0], line[2] == "+"))
  told = [f"{sign} {path} {shape}" for path, shape, sign in lines[:_TOLD]]
  if more := len(lines) - len(told):
    told.append(f"and {more} more")
  return ", ".join(told)


def _nodes(paths: Iterable[str]) -> set[str]:
  """Every path and every path above one."""
  return {
    "/".join(parts[:depth])
    for parts in (path.split("/") for path in paths)
    for depth in range(1, len(parts) + 1)
  }


def _lines(paths: Iterable[str]) -> str:
  return "\n".join(f"  {path}" for path in sorted(paths))
