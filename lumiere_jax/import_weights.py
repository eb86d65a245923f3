# SPDX-License-Identifier: Apache-2.0
"""Public weights to ours: python -m lumiere_jax.import_weights --from=...

--from=diffusers-unet  a U-Net of DeepFloyd IF's form, as diffusers saves it:
                       --src is its folder, or that of its whole pipeline

Writes a weights folder that `sample --weights`, `train --init_from` and
`Lumiere.load` take. Every tensor is used once and keeps its bits.
"""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import build, cli, trees
from lumiere_jax.config import (
  Config,
  DataConfig,
  TextConfig,
  TrainConfig,
  to_dict,
)
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.models.stunet import STUNet
from lumiere_jax.weights import diffusers_unet, folder, foreign, scheduler
from lumiere_jax.weights.rules import describe, plan
from lumiere_jax.weights.shards import DTYPES

FORMATS = ("diffusers-unet",)
# Tokens that IF's captions are padded to.
IF_TOKENS = 77


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(
    prog="lumiere_jax.import_weights",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--from", dest="format", required=True, help=", ".join(FORMATS))
  add("--src", required=True, help="folder of the model")
  add("--out", required=True, help="weights folder to write")
  add("--dtype", help=f"{', '.join(DTYPES)}; the source's if not given")
  add(
    "--skip_parity",
    action="store_true",
    help="do not run the source's library beside ours on random input",
  )
  args = parser.parse_args(argv)
  if args.format not in FORMATS:
    raise UserError(
      f"unknown --from={args.format!r}{nearest(args.format, FORMATS)}"
    )
  import_unet(Path(args.src), Path(args.out), dtype=args.dtype)
  if not args.skip_parity:
    print(unet_parity(Path(args.src), Path(args.out)))


def import_unet(
  src: Path, out: Path, *, dtype: str | None = None
) -> folder.Info:
  """Writes a weights folder of a diffusers U-Net in IF's form.

  Args:
    src: the model's folder, or its pipeline's.
    out: folder to write; absent or empty.
    dtype: type of the stored weights; None keeps the source's.

  Raises:
    UserError: a file is missing or damaged, the network is of another form,
      or a tensor is missing, left over or of another shape.
  """
  model = foreign.model_folder(src, "unet")
  config = unet_config(src)
  table = diffusers_unet.rules(config.model.num_levels)
  with foreign.open_weights(model) as source:
    target = build.abstract_params(config.model)
    leaves = plan(source, table, target, keep_types=True)
    print("\n".join(describe(source, table)))
    info = folder.save(
      out,
      trees.unflatten(leaves),
      to_dict(config),
      foreign.licence_text(model),
      dtype=dtype,
    )
  print(f"{info.num_params:,} parameters, {len(leaves)} tensors: {out}")
  return info


def unet_config(src: Path) -> Config:
  """The whole configuration of a U-Net's folder or its pipeline's."""
  path = foreign.model_folder(src, "unet") / foreign.CONFIG
  fields = foreign.read_json(path)
  network = _named(path, diffusers_unet.unet_config, fields)
  path = src / "scheduler" / scheduler.FILE
  process = scheduler.IF_SCHEDULER
  if path.is_file():
    process = foreign.read_json(path)
  elif network.class_embed_type == "timestep":
    process = process | {"sample_max_value": 1.0}  # Of its upscalers.
  diffusion, sampler = _named(path, scheduler.process, process)
  return Config(
    name=src.resolve().name,
    model=network,
    diffusion=diffusion,
    sampler=sampler,
    text=TextConfig(encoder="t5", max_tokens=IF_TOKENS),
    data=DataConfig(size_px=fields.get("sample_size") or 64),
    train=TrainConfig(stage="image"),
  )


def _named(path: Path, read: Callable[[Any], Any], fields: Any) -> Any:
  """Reads the fields of a file, which an error names."""
  try:
    return read(fields)
  except UserError as error:
    raise UserError(f"{path}: {error}") from None


def unet_parity(src: Path, out: Path) -> str:
  """Compares diffusers and ours on random input, both in float32.

  Returns:
    One line with the relative error, or what is not installed.
  """
  missing = [
    name
    for name in ("torch", "diffusers")
    if importlib.util.find_spec(name) is None
  ]
  if missing:
    return f"parity: not measured, {' and '.join(missing)} not installed"
  params, saved, _ = folder.load(out)
  cfg = cli.resolve(saved, {}).model
  side, random = cfg.spatial_stride, np.random.default_rng(0)
  x = random.normal(size=(1, 2 * side, 3 * side, cfg.in_channels))
  text = random.normal(size=(1, 7, cfg.encoder_hid_dim))
  x, text, t = (a.astype(np.float32) for a in (x, text, np.full(1, 500.0)))
  level = (t,) if cfg.class_embed_type == "timestep" else ()
  expected = _diffusers_output(
    foreign.model_folder(src, "unet"), x, t, text, *level
  )
  x, t, text, *level = (jnp.asarray(a) for a in (x, t, text, *level))
  with jax.default_matmul_precision("highest"):
    params = build.cast_params(params, cfg)
    actual = STUNet(cfg).apply({"params": params}, x, t, text, None, *level)
  error = np.abs(actual - expected).max() / np.abs(expected).max()
  return f"parity: largest error {error:.1e} of the largest output of diffusers"


def _diffusers_output(
  model: Path,
  x: np.ndarray,
  t: np.ndarray,
  text: np.ndarray,
  level: np.ndarray | None = None,
) -> np.ndarray:
  """What diffusers computes, channels last."""
  import diffusers
  import torch

  diffusers.logging.set_verbosity_error()
  diffusers.logging.disable_progress_bar()
  network = diffusers.UNet2DConditionModel.from_pretrained(
    model,
    torch_dtype=torch.float32,
    local_files_only=True,
    low_cpu_mem_usage=False,
  ).eval()
  with torch.no_grad():
    y = network(
      torch.from_numpy(np.moveaxis(x, -1, 1).copy()),
      torch.from_numpy(t),
      torch.from_numpy(text),
      class_labels=None if level is None else torch.from_numpy(level),
    ).sample
  return np.moveaxis(y.numpy(), 1, -1)


if __name__ == "__main__":
  cli.run(main)
