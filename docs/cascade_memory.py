# SPDX-License-Identifier: Apache-2.0
"""Prints what memory super-resolution takes by the length of the clip.

python docs/cascade_memory.py --config=configs/demo_ssr.py

Nothing is sampled: the sampling program is compiled for one clip, and XLA
tells what it would allocate. With --topology (v6e:2x2) it is compiled for one
chip of a TPU, which need not be there but wants `pip install "jax[tpu]"` and

JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 TPU_WORKER_HOSTNAMES=localhost
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from lumiere_jax import build, cli
from lumiere_jax.config import Config
from lumiere_jax.inference.generate import Text

_MB = 1e6
_FRAMES = "16,80,320"


def memory(cfg: Config, device: Any) -> Any:
  """XLA's figures of the program that enlarges one clip on a device."""
  _, _, features, mask, *_ = build.network_inputs(
    cfg.model, cfg.text.max_tokens
  )
  text = Text(features, mask)
  size = build.material_size(cfg)
  low = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
  # All else follows the parameters to the device.
  here = jax.sharding.SingleDeviceSharding(device)
  params = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here),
    build.abstract_params(cfg.model),
  )
  generator = build.generator(cfg, "upscale")
  return (
    generator.lower(params, text, text, low=low).compile().memory_analysis()
  )


def main(argv: Sequence[str]) -> None:
  parser = cli.Parser(prog="docs/cascade_memory.py", description=__doc__)
  parser.add_argument("--config", required=True)
  parser.add_argument("--frames", default=_FRAMES)
  parser.add_argument("--topology", help="of a TPU; without it the CPU's")
  args, overrides = cli.parse(parser, argv)
  device = jax.devices()[0]
  if args.topology:
    tpu = topologies.get_topology_desc(
      platform="tpu", topology_name=args.topology
    )
    device = tpu.devices[0]
  file = cli.read_config(args.config)
  print(
    "| frames | weights MB | clip MB | kept between steps | temporaries MB | "
    "of them more clips than in the row above | peak MB |\n" + "|---" * 7 + "|"
  )
  before = None
  for frames in map(int, args.frames.split(",")):
    cfg = cli.resolve(file, overrides | {"data.num_frames": str(frames)})
    found = memory(cfg, device)
    clip = frames * cfg.data.size_px**2 * 3 * 4
    weights = build.abstract_params(cfg.model)
    weights = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(weights))
    growth = "-"
    if before:
      more = found.temp_size_in_bytes - before[0]
      growth = f"{more / (clip - before[1]):.1f}"
    # On CPUs XLA's peak leaves the temporaries out.
    peak = f"{found.peak_memory_in_bytes / _MB:,.1f}" if args.topology else "-"
    print(
      f"| {frames} | {weights / _MB:,.1f} | {clip / _MB:,.1f} | "
      f"{found.alias_size_in_bytes / clip:.1f} clips | "
      f"{found.temp_size_in_bytes / _MB:,.1f} | {growth} | {peak} |",
      flush=True,
    )
    before = found.temp_size_in_bytes, clip


if __name__ == "__main__":
  cli.run(main)
