# SPDX-License-Identifier: Apache-2.0
"""A weights folder: what a trained model is, complete, on disk.

config.json                       the resolved configuration
model-00001-of-00002.safetensors  tensors, named by their paths "a/b/c"
model.safetensors.index.json      which file holds which
info.json                         fingerprint and number of parameters
LICENSE                           licence and attribution
"""

import json
import math
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from lumiere_jax import trees
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import PyTree
from lumiere_jax.weights.lazy import INDEX, open_safetensors

DTYPES = ("float32", "float16", "bfloat16")

# What is shipped, one folder per name: package data.
ASSETS = Path(__file__).resolve().parent.parent / "assets"

_CONFIG, _INFO, _LICENCE = "config.json", "info.json", "LICENSE"


@dataclass(frozen=True, kw_only=True)
class Info:
  """What identifies the weights of a folder.

  Attributes:
    fingerprint: `trees.fingerprint` of the parameters as they are stored.
    num_params: how many there are.
  """

  fingerprint: str
  num_params: int


def save(
  folder: Path | str,
  params: PyTree,
  config: dict[str, Any],
  licence: str,
  *,
  dtype: str | None = None,
  shard_mb: int = 2000,
) -> Info:
  """Writes a weights folder, whole or not at all.

  Args:
    folder: must be absent or empty.
    params: tree of arrays, read one shard at a time if they are lazy.
    config: the resolved configuration, as `config.to_dict` gives it.
    licence: licence and attribution of the weights.
    dtype: type that floating-point parameters are stored in; None keeps each.
    shard_mb: largest size of a file in 10^6 bytes; one tensor may exceed it.

  Raises:
    UserError: the folder holds something, the type is unknown, or a value is
      too large for it.
  """
  folder = Path(folder)
  if dtype is not None and dtype not in DTYPES:
    raise UserError(f"unknown weights dtype {dtype!r}{nearest(dtype, DTYPES)}")
  if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
    raise UserError(f"weights folder {folder} exists and is not empty")
  folder.parent.mkdir(parents=True, exist_ok=True)
  # The scratch folder lies beside the target, so that the rename is atomic.
  with tempfile.TemporaryDirectory(
    prefix=f".{folder.name}.", dir=folder.parent
  ) as scratch:
    new = Path(scratch) / "weights"
    new.mkdir()
    _write_json(new / _CONFIG, config)
    (new / _LICENCE).write_text(licence)
    _write_shards(new, trees.flatten(params), dtype, shard_mb * 10**6)
    info = _measure(new)
    _write_json(new / _INFO, asdict(info))
    new.rename(folder)
  return info


def load(folder: Path | str) -> tuple[PyTree, dict[str, Any], Info]:
  """Returns the parameters (NumPy, as stored), the configuration, the info.

  Raises:
    UserError: a file is missing or damaged, or the parameters are not those
      that were saved.
  """
  folder = Path(folder)
  config = load_config(folder)
  with open_safetensors(folder) as tensors:
    params = trees.unflatten({p: np.asarray(t) for p, t in tensors.items()})
  info = Info(
    fingerprint=trees.fingerprint(params), num_params=trees.count(params)
  )
  saved = _read_json(folder / _INFO)
  if asdict(info) != saved:
    raise UserError(
      f"weights in {folder} were changed after they were saved: fingerprint "
      f"{info.fingerprint[:12]}..., not {str(saved.get('fingerprint'))[:12]}..."
    )
  return params, config, info


def load_config(folder: Path | str) -> dict[str, Any]:
  """Returns the configuration that was saved with the weights."""
  return _read_json(Path(folder) / _CONFIG)


def resolve(name: str | Path) -> Path:
  """Returns the weights folder of a shipped name or of a path.

  Raises:
    UserError: there is none; names the shipped ones.
  """
  shipped = {p.parent.name: p.parent for p in ASSETS.glob(f"*/{_CONFIG}")}
  folder = shipped.get(str(name), Path(name))
  if not str(name) or not (folder / _CONFIG).is_file():
    raise UserError(
      f"no weights in {str(name)!r}: neither a weights folder nor a shipped "
      f"name{nearest(str(name), shipped)}"
    )
  return folder


def _write_shards(
  folder: Path, leaves: dict[str, Any], dtype: str | None, limit: int
) -> None:
  """Writes tensors in the order of their paths, and the index.

  Args:
    folder: where to.
    leaves: by path.
    dtype: as in `save`.
    limit: bytes of a file.
  """
  shards: list[list[str]] = []
  size = 0
  for path in sorted(leaves):
    leaf = leaves[path]
    nbytes = math.prod(leaf.shape) * _stored(leaf.dtype, dtype).itemsize
    if not shards or size + nbytes > limit:
      shards.append([])
      size = 0
    shards[-1].append(path)
    size += nbytes
  files = {}
  for number, paths in enumerate(shards, 1):
    name = f"model-{number:05}-of-{len(shards):05}.safetensors"
    save_file({p: _cast(p, leaves[p], dtype) for p in paths}, folder / name)
    # The library makes files that only their owner can read.
    shutil.copymode(folder / _CONFIG, folder / name)
    files |= dict.fromkeys(paths, name)
  _write_json(folder / INDEX, {"metadata": {}, "weight_map": files})


def _stored(given: Any, dtype: str | None) -> np.dtype:
  floating = jnp.issubdtype(given, jnp.floating)
  return jnp.dtype(dtype if dtype and floating else given)


def _cast(path: str, leaf: Any, dtype: str | None) -> np.ndarray:
  array = np.asarray(leaf, order="C")
  with np.errstate(over="ignore"):
    stored = array.astype(_stored(array.dtype, dtype), copy=False)
  if not np.array_equal(np.isfinite(stored), np.isfinite(array)):
    raise UserError(f"{path} has values too large for weights dtype {dtype}")
  return stored


def _measure(folder: Path) -> Info:
  """The info of what was really written."""
  with open_safetensors(folder) as tensors:
    return Info(
      fingerprint=trees.fingerprint(tensors), num_params=trees.count(tensors)
    )


def _write_json(path: Path, value: Any) -> None:
  path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text())
  except (OSError, ValueError) as error:
    raise UserError(f"cannot read {path}: {error}") from error
  if not isinstance(value, dict):
    raise UserError(f"cannot read {path}: it is no JSON object")
  return value
