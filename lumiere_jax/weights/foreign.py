# SPDX-License-Identifier: Apache-2.0
"""Model folders as diffusers and transformers write them."""

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.weights.lazy import LazyTensor, open_files

CONFIG = "config.json"

# Names that a weights file may have, the best first: whole precision before
# half, safetensors before pickles.
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_SUFFIXES = (
  ".safetensors",
  ".safetensors.index.json",
  ".fp16.safetensors",
  ".safetensors.index.fp16.json",
  ".bin",
  ".bin.index.json",
  ".fp16.bin",
  ".bin.index.fp16.json",
)
_TOKENIZERS = ("tokenizer.json", "spiece.model")
_LICENCES = ("LICENSE*", "LICENCE*", "license*", "COPYING*", "NOTICE*")


def read_json(path: Path) -> dict[str, Any]:
  """Returns a JSON object.

  Raises:
    UserError: the file cannot be read or holds something else.
  """
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise UserError(f"cannot read {path}: {error}") from error
  if not isinstance(value, dict):
    raise UserError(f"cannot read {path}: it is no JSON object")
  return value


def model_folder(src: Path, part: str) -> Path:
  """Returns the folder of a model: `src`, or the part of a pipeline there.

  Args:
    src: a folder with config.json, or of a whole pipeline.
    part: the model's folder in a pipeline, as "unet".

  Raises:
    UserError: there is no such model.
  """
  for folder in (src, src / part):
    if (folder / CONFIG).is_file():
      return folder
  what = "is no folder" if not src.is_dir() else f"has no {CONFIG}"
  raise UserError(
    f"{src} {what}; a model folder with {CONFIG} and its weights, or a "
    f"pipeline's folder with {part}/, was expected"
  )


def pipeline_folder(model: Path, part: str) -> Path:
  """Returns the folder of the pipeline that a model's folder is the part of.

  The model's own folder, if it is of another name: it stands alone.
  """
  model = model.resolve()
  return model.parent if model.name == part else model


def licence_text(folder: Path) -> str:
  """Returns the licences found in a model's folder, or else the one above."""
  for place in (folder, folder.resolve().parent):
    files = {f for p in _LICENCES for f in place.glob(p) if f.is_file()}
    if files:
      texts = [f.read_text("utf-8", errors="replace") for f in sorted(files)]
      return "\n".join(texts)
  return (
    "No licence text lay beside the weights that these were imported from.\n"
    "Their publisher's terms hold.\n"
  )


def tokenizer_files(folder: Path) -> list[Path]:
  """Returns the files of an encoder's tokenizer, in its folder or beside it.

  Raises:
    UserError: there are none.
  """
  for place in (folder, folder.resolve().parent / "tokenizer"):
    files = [place / name for name in _TOKENIZERS if (place / name).is_file()]
    if files:
      return files
  raise UserError(
    f"no tokenizer in {folder} or in tokenizer/ beside it; one of "
    f"{', '.join(_TOKENIZERS)} was expected"
  )


def weight_files(folder: Path) -> list[Path]:
  """Returns the files that hold a model's tensors, all shards of one kind.

  Raises:
    UserError: there are none, or a shard that the index names is missing.
  """
  names = [stem + suffix for suffix in _SUFFIXES for stem in _STEMS]
  name = next((n for n in names if (folder / n).is_file()), None)
  if name is None:
    raise UserError(
      f"no weights in {folder}: one of {_STEMS[0]}.safetensors, "
      f"{_STEMS[1]}.safetensors, {_STEMS[2]}.bin or their .index.json was "
      "expected"
    )
  if not name.endswith(".json"):
    return [folder / name]
  index = read_json(folder / name).get("weight_map")
  shards = list(index.values()) if isinstance(index, dict) else []
  if not shards or not all(isinstance(shard, str) for shard in shards):
    raise UserError(f"cannot read {folder / name}: it maps no weights to files")
  files = [folder / shard for shard in sorted(set(shards))]
  missing = [file.name for file in files if not file.is_file()]
  if missing:
    raise UserError(
      f"{len(missing)} of {len(files)} shards that {folder / name} names are "
      f"missing: {', '.join(missing)}"
    )
  return files


@contextlib.contextmanager
def open_weights(src: Path) -> Iterator[Mapping[str, LazyTensor]]:
  """Yields the tensors of a model; each is read when it is needed.

  Args:
    src: the model's folder, or its only file.

  Raises:
    UserError: no weights, a missing or damaged file, or a pickle where torch
      is not installed.
  """
  files = [src] if src.is_file() else weight_files(src)
  if files[0].suffix == ".safetensors":
    with open_files(files) as tensors:
      yield tensors
  else:
    yield {k: v for file in files for k, v in _open_pickle(file).items()}


def _open_pickle(file: Path) -> dict[str, LazyTensor]:
  """The tensors of a torch file, mapped from disk; runs no code of it."""
  try:
    import torch
  except ModuleNotFoundError:
    raise UserError(
      f"{file} can only be read with torch: pip install 'lumiere_jax[convert]'"
      ", or use the safetensors of the same model"
    ) from None
  try:
    # Files of torch before 1.6 are no archives that could be mapped.
    state = torch.load(
      file,
      map_location="cpu",
      weights_only=True,
      mmap=zipfile.is_zipfile(file),
    )
    return {key: _torch_tensor(value) for key, value in state.items()}
  except Exception as error:  # Whatever a damaged pickle may raise.
    reason = str(error).strip().split("\n")[0]
    raise UserError(f"cannot read weights {file}: {reason}") from error


def _torch_tensor(tensor: Any) -> LazyTensor:
  import torch

  half = tensor.dtype == torch.bfloat16  # NumPy has no such type of its own.
  dtype = jnp.bfloat16 if half else tensor.numpy().dtype

  def read() -> np.ndarray:
    if half:
      return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()

  return LazyTensor(shape=tuple(tensor.shape), dtype=np.dtype(dtype), read=read)
