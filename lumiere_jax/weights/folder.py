# SPDX-License-Identifier: Apache-2.0
"""A weights folder: what a trained model is, complete, on disk.

config.json                       the resolved configuration
model-00001-of-00002.safetensors  tensors, named by their paths "a/b/c"
model.safetensors.index.json      which file holds which
info.json                         fingerprint and number of parameters
delta.json                        of weights that are told as a difference:
                                  to which others (weights/delta.py)
LICENSE                           licence and attribution
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax import trees
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import PyTree
from lumiere_jax.weights.delta import compress, expand
from lumiere_jax.weights.foreign import CONFIG, read_json
from lumiere_jax.weights.lazy import open_safetensors
from lumiere_jax.weights.shards import (
  LICENCE,
  new_folder,
  write_json,
  write_shards,
)

# What is shipped, one folder per name: package data.
ASSETS = Path(__file__).resolve().parent.parent / "assets"

_INFO = "info.json"
_DELTA = "delta.json"


@dataclass(frozen=True, kw_only=True)
class Info:
  """What identifies the weights of a folder.

  Attributes:
    fingerprint: `trees.fingerprint` of the parameters as they are stored.
    num_params: how many there are.
    source: what imported them from a public format, if they were.
  """

  fingerprint: str
  num_params: int
  source: str = ""


def save(
  folder: Path | str,
  params: PyTree,
  config: dict[str, Any],
  licence: str,
  *,
  dtype: str | None = None,
  shard_mb: int = 2000,
  files: Sequence[Path] = (),
  source: str = "",
) -> Info:
  """Writes a weights folder, whole or not at all.

  Args:
    folder: must be absent or empty.
    params: tree of arrays, read one shard at a time if they are lazy.
    config: the resolved configuration, as `config.to_dict` gives it.
    licence: licence and attribution of the weights.
    dtype: type that floating-point parameters are stored in; None keeps each.
    shard_mb: largest size of a file in 10^6 bytes; one tensor may exceed it.
    files: what else belongs to the model, as a tokenizer; copied.
    source: what imports them from a public format.

  Raises:
    UserError: the folder holds something, the type is unknown, or a value is
      too large for it.
  """
  with new_folder(folder) as new:
    write_json(new / CONFIG, config)
    (new / LICENCE).write_text(licence)
    for file in files:
      shutil.copyfile(file, new / file.name)
    write_shards(new, trees.flatten(params), dtype=dtype, shard_mb=shard_mb)
    info = replace(_measure(new), source=source)
    write_json(new / _INFO, asdict(info))
  return info


def save_delta(
  folder: Path | str,
  params: PyTree,
  base: str,
  config: dict[str, Any],
  licence: str,
  *,
  rank: int | None = None,
) -> Info:
  """Writes weights as their difference to others, in float16.

  Args:
    folder: must be absent or empty.
    params: tree of arrays.
    base: shipped name, or weights folder, that they are told by.
    config: the resolved configuration of the params.
    licence: licence and attribution of the weights.
    rank: as in `delta.compress`.

  Raises:
    UserError: as in `save`, or there is no such base, or it does not fit.
  """
  others, _, of_base = load(resolve(base))
  told, others = trees.flatten(params), trees.flatten(others)
  shared = {path: leaf for path, leaf in others.items() if path in told}
  origin = {
    "base": base,
    "fingerprint": of_base.fingerprint,
    "without": sorted(set(others) - set(told)),
  }
  with new_folder(folder) as new:
    write_json(new / CONFIG, config)
    (new / LICENCE).write_text(licence)
    write_shards(new, compress(told, shared, rank), dtype="float16")
    write_json(new / _DELTA, origin)
    with open_safetensors(new) as stored:
      leaves = expand(stored, shared)
    info = Info(
      fingerprint=trees.fingerprint(leaves), num_params=trees.count(leaves)
    )
    write_json(new / _INFO, asdict(info))
  return info


@contextlib.contextmanager
def open_leaves(folder: Path | str) -> Iterator[Mapping[str, Any]]:
  """Yields the parameters by path, none of them read yet.

  Those of a difference are read: they are sums.

  Raises:
    UserError: a file is missing or damaged, or the base is not what it was.
  """
  folder = Path(folder)
  with open_safetensors(folder) as tensors:
    if (folder / _DELTA).is_file():
      yield expand(tensors, _base_of(folder))
    else:
      yield tensors


def base_name(name: str) -> str:
  """The weights to which those of a folder or shipped name are a difference.

  Their own name if they are not, or are not there.
  """
  path = shipped().get(name, Path(name)) / _DELTA
  return str(read_json(path).get("base")) if path.is_file() else name


def _base_of(folder: Path) -> dict[str, Any]:
  """The leaves of the weights that those in a folder are told by.

  Without those that the told ones have not: a style has no temporal part.
  """
  saved = read_json(folder / _DELTA)
  name = str(saved.get("base"))
  params, _, info = load(resolve(name))
  if info.fingerprint != saved.get("fingerprint"):
    raise UserError(
      f"weights in {folder} are a difference to {name!r} with fingerprint "
      f"{str(saved.get('fingerprint'))[:12]}..., not {info.fingerprint[:12]}..."
    )
  leaves = trees.flatten(params)
  for path in saved.get("without", ()):
    leaves.pop(path, None)
  return leaves


def load(folder: Path | str) -> tuple[PyTree, dict[str, Any], Info]:
  """Returns the parameters (NumPy, as stored), the configuration, the info.

  Raises:
    UserError: a file is missing or damaged, or the parameters are not those
      that were saved.
  """
  folder = Path(folder)
  config = read_json(folder / CONFIG)
  with open_leaves(folder) as leaves:
    params = trees.unflatten({p: np.asarray(v) for p, v in leaves.items()})
  fingerprint, saved = trees.fingerprint(params), load_info(folder)
  if fingerprint != saved.fingerprint:
    raise UserError(
      f"weights in {folder} were changed after they were saved: fingerprint "
      f"{fingerprint[:12]}..., not {saved.fingerprint[:12]}..."
    )
  return params, config, saved


def load_info(folder: Path | str) -> Info:
  """Returns what identifies the weights, as it was saved with them.

  Raises:
    UserError: the file cannot be read or tells something else.
  """
  path = Path(folder) / _INFO
  try:
    return Info(**read_json(path))
  except TypeError as error:
    raise UserError(f"cannot read {path}: {error}") from error


def load_config(
  folder: Path | str, *, of_encoder: bool = False
) -> dict[str, Any]:
  """Returns the configuration that was saved with the weights.

  Args:
    folder: a weights folder.
    of_encoder: whether it is to hold a text encoder rather than a network.

  Raises:
    UserError: it cannot be read, or is of another kind.
  """
  config = read_json(Path(folder) / CONFIG)
  if {"_class_name", "model_type"} & set(config):
    raise UserError(
      f"{folder} holds a model of diffusers or transformers; import_weights "
      "makes a weights folder of it"
    )
  if not of_encoder and "text_encoder" in config:
    raise UserError(f"{folder} holds a text encoder, a U-Net was expected")
  return config


def shipped() -> dict[str, Path]:
  """The weights folders that come with the package, by name."""
  return {p.parent.name: p.parent for p in ASSETS.glob(f"*/{CONFIG}")}


def resolve(name: str | Path) -> Path:
  """Returns the weights folder of a shipped name or of a path.

  Raises:
    UserError: there is none; names the shipped ones.
  """
  known = shipped()
  folder = known.get(str(name), Path(name))
  if not str(name) or not (folder / CONFIG).is_file():
    raise UserError(
      f"no weights in {str(name)!r}: neither a weights folder nor a shipped "
      f"name{nearest(str(name), known)}"
    )
  return folder


def _measure(folder: Path) -> Info:
  """The info of what was really written."""
  with open_safetensors(folder) as tensors:
    return Info(
      fingerprint=trees.fingerprint(tensors), num_params=trees.count(tensors)
    )
