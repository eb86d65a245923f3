# SPDX-License-Identifier: Apache-2.0
"""Writes folders of safetensors, whole or not at all."""

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from lumiere_jax.errors import UserError, nearest

DTYPES = ("float32", "float16", "bfloat16")
LICENCE = "LICENSE"


@contextlib.contextmanager
def new_folder(folder: Path | str) -> Iterator[Path]:
  """Yields a folder to fill, which becomes `folder` if nothing goes wrong.

  Raises:
    UserError: `folder` holds something, or cannot be made.
  """
  folder = Path(folder)
  check_target(folder)
  above = (folder.parent, *folder.parent.parents)
  made = [place for place in above if not place.exists()]
  try:
    folder.parent.mkdir(parents=True, exist_ok=True)
    # It lies beside the target, so that the rename is atomic.
    scratch = tempfile.TemporaryDirectory(
      prefix=f".{folder.name}.", dir=folder.parent
    )
  except OSError as error:
    raise UserError(f"cannot write weights {folder}: {error}") from error
  try:
    with scratch as name:
      new = Path(name) / "weights"
      new.mkdir()
      yield new
      new.rename(folder)
  except BaseException:
    for place in made:
      with contextlib.suppress(OSError):
        place.rmdir()
    raise


def check_target(folder: Path, dtype: str | None = None) -> None:
  """Checks where weights are to lie, and in which type, before the work.

  Raises:
    UserError: the folder holds something, or there is no such type.
  """
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise UserError(f"folder {folder} exists and is not empty")
  check_dtype(dtype)


def check_dtype(dtype: str | None) -> None:
  """Raises UserError unless weights can be stored in the type, or in each."""
  if dtype is not None and dtype not in DTYPES:
    raise UserError(f"unknown weights dtype {dtype!r}{nearest(dtype, DTYPES)}")


def write_shards(
  folder: Path,
  leaves: Mapping[str, Any],
  *,
  stem: str = "model",
  dtype: str | None = None,
  shard_mb: int = 2000,
  single: bool = False,
) -> None:
  """Writes tensors in the order of their names, and an index of the files.

  Args:
    folder: where to.
    leaves: tensors by name, read one shard at a time if they are lazy.
    stem: how the files' names begin.
    dtype: type that floating-point tensors are stored in; None keeps each.
    shard_mb: largest size of a file in 10^6 bytes; one tensor may exceed it.
    single: what fits into one file is called `stem`.safetensors and has no
      index, as Hugging Face's libraries expect it.

  Raises:
    UserError: the type is unknown, or a value is too large for it.
  """
  check_dtype(dtype)
  shards = _shards(leaves, dtype, shard_mb * 10**6)
  files = {}
  for number, names in enumerate(shards, 1):
    file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
    if single and len(shards) == 1:
      file = f"{stem}.safetensors"
    # In one expression, so that a shard is gone before the next is read.
    _save(
      folder / file,
      {name: _cast(name, leaves[name], dtype) for name in names},
    )
    files |= dict.fromkeys(names, file)
  if not single or len(shards) > 1:
    size = sum(_nbytes(leaf, dtype) for leaf in leaves.values())
    index = {"metadata": {"total_size": size}, "weight_map": files}
    write_json(folder / f"{stem}.safetensors.index.json", index)


def write_json(path: Path, value: Any) -> None:
  """Writes a value so that equal ones give equal files."""
  path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _shards(
  leaves: Mapping[str, Any], dtype: str | None, limit: int
) -> list[list[str]]:
  """The names that each file holds."""
  shards: list[list[str]] = []
  size = 0
  for name in sorted(leaves):
    nbytes = _nbytes(leaves[name], dtype)
    if not shards or size + nbytes > limit:
      shards.append([])
      size = 0
    shards[-1].append(name)
    size += nbytes
  return shards


def _save(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
  path.touch()
  mode = path.stat().st_mode
  save_file(tensors, path, metadata={"format": "pt"})
  path.chmod(mode)  # The library lets only the owner read its files.


def _nbytes(leaf: Any, dtype: str | None) -> int:
  return math.prod(leaf.shape) * _stored(leaf.dtype, dtype).itemsize


def _stored(given: Any, dtype: str | None) -> np.dtype:
  floating = jnp.issubdtype(given, jnp.floating)
  return jnp.dtype(dtype if dtype and floating else given)


def _cast(name: str, leaf: Any, dtype: str | None) -> np.ndarray:
  array = np.asarray(leaf, order="C")
  with np.errstate(over="ignore"):
    stored = array.astype(_stored(array.dtype, dtype), copy=False)
  if not np.array_equal(np.isfinite(stored), np.isfinite(array)):
    raise UserError(f"{name} has values too large for weights dtype {dtype}")
  return stored
