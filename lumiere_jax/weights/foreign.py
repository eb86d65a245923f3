# SPDX-License-Identifier: Apache-2.0
"""Model folders as diffusers and transformers write them."""

import contextlib
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
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


def check_pixels(
  folder: Path, mean: Sequence[float], std: Sequence[float]
) -> None:
  """Passes a model that wants frames normalised so, or does not tell.

  Raises:
    UserError: its image processor's file tells otherwise.
  """
  path = folder / "preprocessor_config.json"
  fields = read_json(path) if path.is_file() else {}
  for name, wanted in (("image_mean", mean), ("image_std", std)):
    found = fields.get(name, wanted)
    if list(found) != list(wanted):
      raise UserError(f"{path}: {name}={found} must be {list(wanted)}")


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
    UserError: no weights, a missing or damaged file, or a pickle that holds
      more than tensors, or where torch is not installed.
  """
  files = [src] if src.is_file() else weight_files(src)
  if files[0].suffix == ".safetensors":
    with open_files(files) as tensors:
      yield tensors
  else:
    yield {k: v for file in files for k, v in _open_pickle(file).items()}


def _open_pickle(file: Path) -> dict[str, LazyTensor]:
  """The tensors of a torch file or of TorchScript; runs no code of it.

  TorchScript's programs are read in another language than Python, and none is
  called.
  """
  try:
    import torch
  except ModuleNotFoundError:
    raise UserError(
      f"{file} can only be read with torch: pip install 'lumiere_jax[convert]'"
      ", or use the safetensors of the same model"
    ) from None
  # Files of torch before 1.6 are no archives that could be mapped.
  archive = zipfile.is_zipfile(file)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Of what is old; nothing else reads it.
      if archive and _is_torchscript(file):
        state = torch.jit.load(file, map_location="cpu").state_dict()
      else:
        state = torch.load(
          file, map_location="cpu", weights_only=True, mmap=archive
        )
  except (RuntimeError, OSError) as error:
    reason = str(error).strip().split("\n")[0]
    raise UserError(f"cannot read weights {file}: {reason}") from error
  except Exception as error:  # Whatever a pickle may raise.
    raise UserError(
      f"cannot read weights {file}: it is damaged, or no file of torch, or "
      "pickles more than tensors, of which nothing was run"
    ) from error
  return _tensors(file, state)


def _is_torchscript(file: Path) -> bool:
  """Whether an archive of torch holds a program with its weights."""
  with zipfile.ZipFile(file) as archive:
    return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _tensors(file: Path, state: Any) -> dict[str, LazyTensor]:
  """What a torch file holds by name, or under "state_dict" in it.

  Raises:
    UserError: something else than tensors.
  """
  import torch

  if isinstance(state, Mapping) and "state_dict" in state:
    state = state["state_dict"]
  if not isinstance(state, Mapping):
    raise UserError(
      f"cannot read weights {file}: it holds a {type(state).__name__}, not "
      "tensors by name"
    )
  found = {}
  for key, value in state.items():
    if not isinstance(value, torch.Tensor):
      raise UserError(f"cannot read weights {file}: {key!r} is no tensor")
    try:
      found[key] = _torch_tensor(value.detach())
    except (TypeError, RuntimeError):
      raise UserError(
        f"cannot read weights {file}: {key!r} is of type {value.dtype}"
      ) from None
  return found


def _torch_tensor(tensor: Any) -> LazyTensor:
  import torch

  half = tensor.dtype == torch.bfloat16  # NumPy has no such type of its own.
  dtype = jnp.bfloat16 if half else tensor.numpy().dtype

  def read() -> np.ndarray:
    if half:
      return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
    return tensor.numpy()

  return LazyTensor(shape=tuple(tensor.shape), dtype=np.dtype(dtype), read=read)
