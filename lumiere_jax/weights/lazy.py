# SPDX-License-Identifier: Apache-2.0
"""Tensors that are read from disk when they are needed, one at a time."""

import contextlib
import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from lumiere_jax.errors import UserError

INDEX = "model.safetensors.index.json"

_DTYPES = {
  "F64": np.float64,
  "F32": np.float32,
  "F16": np.float16,
  "BF16": jnp.bfloat16,
  "I64": np.int64,
  "I32": np.int32,
  "I16": np.int16,
  "I8": np.int8,
  "U8": np.uint8,
  "BOOL": np.bool_,
}


@dataclass(frozen=True, kw_only=True)
class LazyTensor:
  """A tensor of known shape and type whose values `np.asarray` reads.

  Attributes:
    shape: of the values.
    dtype: of the values.
    read: returns them.
  """

  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[], np.ndarray]

  @property
  def nbytes(self) -> int:
    return math.prod(self.shape) * self.dtype.itemsize

  def __array__(self, dtype=None, copy=None) -> np.ndarray:
    return np.asarray(self.read(), dtype=dtype, copy=copy)


@contextlib.contextmanager
def open_safetensors(path: Path) -> Iterator[dict[str, LazyTensor]]:
  """Yields every tensor of a safetensors file or of a folder of shards.

  Args:
    path: a file, or a folder with an index, as ours and Hugging Face's are.

  Raises:
    UserError: a file is missing or is not safetensors.
  """
  with open_files(_shards(path) if path.is_dir() else [path]) as tensors:
    yield tensors


@contextlib.contextmanager
def open_files(files: Iterable[Path]) -> Iterator[dict[str, LazyTensor]]:
  """Yields every tensor of several safetensors files.

  Raises:
    UserError: a file is missing, damaged or no safetensors, or a tensor lies
      in two of them or has a type that NumPy has not.
  """
  with contextlib.ExitStack() as stack:
    tensors: dict[str, LazyTensor] = {}
    for file in files:
      handle = stack.enter_context(_open(file))
      for key in handle.keys():  # noqa: SIM118 (not a dictionary)
        if key in tensors:
          raise UserError(f"weights {file}: {key!r} lies in another file too")
        tensors[key] = _lazy(file, handle, key)
    yield tensors


def _shards(folder: Path) -> list[Path]:
  try:
    index = json.loads((folder / INDEX).read_text())
    return [folder / name for name in sorted(set(index["weight_map"].values()))]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f"cannot read {folder / INDEX}: {error!r}") from error


def _open(file: Path):
  try:
    return safe_open(file, "np")
  except (OSError, SafetensorError) as error:
    raise UserError(f"cannot read weights {file}: {error}") from error


def _lazy(file: Path, handle, key: str) -> LazyTensor:
  view = handle.get_slice(key)
  if view.get_dtype() not in _DTYPES:
    raise UserError(
      f"weights {file}: {key!r} is of type {view.get_dtype()}; choices: "
      f"{', '.join(_DTYPES)}"
    )
  return LazyTensor(
    shape=tuple(view.get_shape()),
    dtype=np.dtype(_DTYPES[view.get_dtype()]),
    read=functools.partial(handle.get_tensor, key),
  )
