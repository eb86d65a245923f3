# SPDX-License-Identifier: Apache-2.0
"""Our weights to public formats: python -m lumiere_jax.export_weights --to=...

--to=diffusers-unet  the spatial part, as a folder that diffusers loads
--to=safetensors     all parameters in safetensors, named as docs/models.md says

Tensors keep their bits unless --dtype says another type.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax import cli
from lumiere_jax.config import Config, from_dict, to_dict
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.weights import diffusers_unet, folder
from lumiere_jax.weights.foreign import CONFIG, licence_text
from lumiere_jax.weights.lazy import LazyTensor, open_safetensors
from lumiere_jax.weights.rules import plan_export
from lumiere_jax.weights.shards import (
  DTYPES,
  LICENCE,
  new_folder,
  write_json,
  write_shards,
)

# Largest file; diffusers and transformers write shards of this size.
_SHARD_MB = 10_000

Leaves = Mapping[str, LazyTensor]


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(
    prog="lumiere_jax.export_weights",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--to", dest="format", required=True, help=", ".join(FORMATS))
  add("--src", required=True, help="weights folder, or name of shipped ones")
  add("--out", required=True, help="folder to write")
  add("--dtype", help=f"{', '.join(DTYPES)}; the source's if not given")
  args = parser.parse_args(argv)
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
      f"unknown --to={format_name!r}{nearest(format_name, FORMATS)}"
    )
  model = folder.resolve(src)
  config = from_dict(folder.load_config(model))
  with open_safetensors(model) as ours:
    stem, fields, leaves = FORMATS[format_name](config, ours)
    with new_folder(out) as new:
      write_json(new / CONFIG, fields)
      (new / LICENCE).write_text(licence_text(model))
      write_shards(
        new, leaves, stem=stem, dtype=dtype, shard_mb=_SHARD_MB, single=True
      )
  return len(leaves)


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


if __name__ == "__main__":
  cli.run(main)
