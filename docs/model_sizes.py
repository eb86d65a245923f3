# SPDX-License-Identifier: Apache-2.0
"""Prints the table of docs/models.md: parameters and FLOPs of every config.

python docs/model_sizes.py [CONFIG...]

Nothing is allocated: networks are traced with abstract arrays, and XLA counts
the operations of the program before it optimises it.
"""

import dataclasses
import sys
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from lumiere_jax import build, cli, trees
from lumiere_jax.config import Config, UNetConfig
from lumiere_jax.models.stunet import STUNet, is_temporal

NAMES = (
  "demo_t2v",
  "demo_ssr",
  "if_m",
  "if_l",
  "if_xl",
  "if_ii_l",
  "if_iii_l",
  "lumiere_128",
  "ssr_1024",
)


def frames_of(cfg: Config) -> int:
  """That the network sees at once."""
  return cfg.data.segment_frames or cfg.data.num_frames


def flops(cfg: Config, model: UNetConfig) -> float:
  """Of one network call on one clip (an image, without temporal part)."""
  size, frames = cfg.data.size_px, (frames_of(cfg),)
  shape = (1, *(frames if model.temporal else ()), size, size)
  x = jax.ShapeDtypeStruct((*shape, model.in_channels), jnp.float32)
  _, *given = build.network_inputs(model, cfg.text.max_tokens)
  params = build.abstract_params(model)
  apply = jax.jit(lambda p, *args: STUNet(model).apply({"params": p}, *args))
  return apply.lower(params, x, *given).cost_analysis()["flops"]


def main(names: Sequence[str]) -> None:
  print(
    "| config | spatial | temporal | pixels | frames | TFLOPs an image | "
    "TFLOPs a clip | at full frame rate |\n" + "|---" * 8 + "|"
  )
  for name in names or NAMES:
    cfg = cli.resolve(cli.read_config(f"configs/{name}.py"), {})
    model = dataclasses.replace(cfg.model, remat="none")
    temporal, spatial = trees.split(build.abstract_params(model), is_temporal)
    full = dataclasses.replace(
      model, temporal=dataclasses.replace(model.temporal, resample=False)
    )
    image = dataclasses.replace(model, temporal=None)
    numbers = [flops(cfg, m) / 1e12 for m in (image, model, full)]
    print(
      f"| {name} | {trees.count(spatial) / 1e6:,.1f}M "
      f"| {trees.count(temporal) / 1e6:,.1f}M | {cfg.data.size_px} "
      f"| {frames_of(cfg)} | {numbers[0]:,.3g} | {numbers[1]:,.3g} "
      f"| {numbers[2]:,.3g} |",
      flush=True,
    )


if __name__ == "__main__":
  main(sys.argv[1:])
