# SPDX-License-Identifier: Apache-2.0
"""Our weights to public formats: python -m lumiere_jax.export_weights --to=...

--to=diffusers-unet  the spatial part, as a folder that diffusers loads
--to=safetensors     all parameters in safetensors, named as docs/models.md says
--to=delta           a weights folder that holds the difference to --base only,
                     in float16, of --rank if that is given

Tensors keep their bits unless --dtype says another type.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax import cli, trees
from lumiere_jax.config import Config, from_dict, to_dict
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.weights import diffusers_unet, folder
from lumiere_jax.weights.foreign import CONFIG, licence_text
from lumiere_jax.weights.lazy import LazyTensor
from lumiere_jax.weights.rules import plan_export
from lumiere_jax.weights.shards import (
  DTYPES,
  LICENCE,
  new_folder,
  write_json,
  write_shards,
)

# Largest file, and about the memory that writing takes.
_SHARD_MB = 2_000

Leaves = Mapping[str, LazyTensor]


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(
    prog="lumiere_jax.export_weights",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--to", dest="format", required=True, help=", ".join(_NAMES))
  add("--src", required=True, help="weights folder, or name of shipped ones")
  add("--out", required=True, help="folder to write")
  add("--dtype", help=f"{', '.join(DTYPES)}; the source's if not given")
  add("--base", help="of a delta: weights folder, or name of shipped ones")
  add("--rank", type=int, help="of a delta: largest rank; whole if not given")
  args = parser.parse_args(argv)
  if args.format == "delta":
    print(export_delta(args.src, args.base, Path(args.out), rank=args.rank))
    return
  count = export(args.format, args.src, Path(args.out), dtype=args.dtype)
  print(f"{count} tensors: {args.out}")


def export(
  format_name: str, src: str, out: Path, *, dtype: str | None = None
) -> int:
  """Writes weights in another format; returns how many tensors.

  Args:
    format_name: one of FORMATS.
    src: weights folder, or the name of shipped ones.
    out: folder to write; absent or empty.
    dtype: type of the stored weights; None keeps the source's.

  Raises:
    UserError: no such format or weights, or the format has no such network.
  """
  if format_name not in FORMATS:
    raise UserError(
      f"unknown --to={format_name!r}{nearest(format_name, _NAMES)}"
    )
  model = folder.resolve(src)
  config = from_dict(folder.load_config(model))
  with folder.open_leaves(model) as ours:
    stem, fields, leaves = FORMATS[format_name](config, ours)
    with new_folder(out) as new:
      write_json(new / CONFIG, fields)
      (new / LICENCE).write_text(licence_text(model))
      write_shards(
        new, leaves, stem=stem, dtype=dtype, shard_mb=_SHARD_MB, single=True
      )
  return len(leaves)


def export_delta(
  src: str, base: str | None, out: Path, *, rank: int | None = None
) -> str:
  """Writes weights as their difference to others; returns how well it holds.

  Args:
    src: weights folder, or the name of shipped ones.
    base: the same of the others.
    out: folder to write; absent or empty.
    rank: largest rank of the difference to a kernel; None keeps it whole.

  Raises:
    UserError: no such weights, no base, or a rank below 1.
  """
  if not base:
    raise UserError("--to=delta needs --base: weights that are there already")
  if rank is not None and rank < 1:
    raise UserError(f"--rank={rank} must be at least 1")
  model = folder.resolve(src)
  params, config, _ = folder.load(model)
  licence = licence_text(model)
  folder.save_delta(out, params, base, config, licence, rank=rank)
  wanted, stored = trees.flatten(params), trees.flatten(folder.load(out)[0])
  before = trees.flatten(folder.load(folder.resolve(base))[0])
  lost = change = 0.0
  for path, leaf in before.items():
    if path in wanted and leaf.shape == wanted[path].shape:
      now = np.asarray(wanted[path], np.float64)
      lost += float(((now - stored[path]) ** 2).sum())
      change += float(((now - np.asarray(leaf, np.float64)) ** 2).sum())
  size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
  share = (lost / change) ** 0.5 if change else 0.0
  return f"{size / 1e6:.2f} MB; lost of the difference: {share:.1%} : {out}"


def _diffusers_unet(
  config: Config, ours: Leaves
) -> tuple[str, dict[str, Any], Leaves]:
  """Name of the files, config.json and tensors of a diffusers U-Net."""
  fields = diffusers_unet.diffusers_config(config.model, config.data.size_px)
  spatial = {p: t for p, t in ours.items() if not is_temporal(p)}
  rules = diffusers_unet.rules(config.model.num_levels)
  return "diffusion_pytorch_model", fields, plan_export(spatial, rules)


def _safetensors(
  config: Config, ours: Leaves
) -> tuple[str, dict[str, Any], Leaves]:
  """The same of all parameters, a dot where paths have a slash."""
  return (
    "model",
    to_dict(config),
    {p.replace("/", "."): t for p, t in ours.items()},
  )


FORMATS = {"diffusers-unet": _diffusers_unet, "safetensors": _safetensors}
_NAMES = (*FORMATS, "delta")


if __name__ == "__main__":
  cli.run(main)
