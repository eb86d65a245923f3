# SPDX-License-Identifier: Apache-2.0
"""Times sampling that reuses guidance and deep features, and what it changes.

python docs/feature_reuse.py --clips=clips --out=docs/runs/feature_reuse.json

Makes clips of the first of the demo's prompts with the shipped weights,
with every sampler and every way to reuse. Clips and seconds are kept in --clips
one by one. With --seconds it stops after about as many, and goes on when it is
run again; the report has the rows whose clips are all there, and its table is
printed. Seconds are those of the fastest clip: other work slows some down. PSNR
is of bytes, to the clip of the same sampler that reuses nothing, mean over
clips.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax import cli, media
from lumiere_jax.api import Lumiere
from lumiere_jax.benchmarking.machine import environment
from lumiere_jax.config import SamplerConfig
from lumiere_jax.evaluation.enlargement import psnr
from lumiere_jax.inference.prompt import Request

PROMPTS = "lumiere_jax/assets/prompts/demo.txt"
CONFIGS = {
  "demo": {},
  "ddim_50": {
    "name": "ddim",
    "steps": 50,
    "guidance_interval": (0.0, 1.0),
  },
}
WAYS = {
  "exact": {},
  "guidance_every=2": {"guidance_every": 2},
  "guidance_every=3": {"guidance_every": 3},
  "deep_every=2": {"deep_every": 2},
  "deep_every=3": {"deep_every": 3},
  "both=2": {"guidance_every": 2, "deep_every": 2},
  "both=3": {"guidance_every": 3, "deep_every": 3},
}


def make_clips(
  model: Lumiere, sampler: SamplerConfig, paths: dict[str, Path], stop: float
) -> bool:
  """Makes the clips of prompts that are not there; false if time was short."""
  todo = {p: path for p, path in paths.items() if not path.is_file()}
  if todo and time.monotonic() < stop:
    model.compile(sampler=sampler)
  for prompt, path in todo.items():
    if time.monotonic() > stop:
      return False
    start = time.perf_counter()
    clip = model.run([Request(prompt, 0)], seed=0, sampler=sampler)[0]
    seconds = time.perf_counter() - start
    path.with_suffix(".json").write_text(json.dumps(seconds))
    media.save_npy(path, clip)
  return True


def row(paths: dict[str, Path], exact: dict[str, Path]) -> dict[str, Any]:
  """Seconds and fidelity of the clips of one way to reuse."""
  seconds, right = (
    [json.loads(p.with_suffix(".json").read_text()) for p in where.values()]
    for where in (paths, exact)
  )
  found = {
    "seconds": seconds,
    "fastest_seconds": min(seconds),
    "speed_up": min(right) / min(seconds),
  }
  if paths != exact:
    values = [psnr(np.load(paths[p]), np.load(exact[p])) for p in paths]
    found |= {"psnr_db": statistics.mean(values), "psnr_db_of_clips": values}
  return found


def table(report: dict[str, Any]) -> str:
  """The report as the table of docs/feature_reuse.md."""
  lines = [
    "| sampler | reuse | seconds | speed-up | PSNR, dB | worst clip, dB |",
    "|---|---|--:|--:|--:|--:|",
  ]
  for name in CONFIGS:
    for way, found in report[name].items():
      nearness = (
        f"{found['psnr_db']:.1f} | {min(found['psnr_db_of_clips']):.1f}"
        if "psnr_db" in found
        else "- | -"
      )
      lines.append(
        f"| {name} | {way} | {found['fastest_seconds']:.1f} "
        f"| {found['speed_up']:.2f} | {nearness} |"
      )
  return "\n".join(lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--weights", default="demo")
  parser.add_argument("--clips", required=True, type=Path)
  parser.add_argument("--out", required=True, type=Path)
  parser.add_argument("--count", type=int, default=4)
  parser.add_argument("--seconds", type=float, default=float("inf"))
  args = parser.parse_args()
  stop = time.monotonic() + args.seconds
  cli.enable_compilation_cache()
  prompts = Path(PROMPTS).read_text(encoding="utf-8").splitlines()[: args.count]
  args.clips.mkdir(parents=True, exist_ok=True)
  model = Lumiere.load(args.weights)
  paths = {
    (name, way): {
      p: args.clips / f"{name}-{way}-{i}.npy" for i, p in enumerate(prompts)
    }
    for name in CONFIGS
    for way in WAYS
  }
  for (name, way), where in paths.items():
    sampler = replace(model.config.sampler, **CONFIGS[name], **WAYS[way])
    if not make_clips(model, sampler, where, stop):
      print(f"not yet: {name}, {way}")
      break
  report = {
    "environment": environment(),
    "weights": args.weights,
    "prompts": prompts,
    "seed": 0,
    **{name: {} for name in CONFIGS},
  }
  for (name, way), where in paths.items():
    if all(path.is_file() for path in where.values()):
      report[name][way] = row(where, paths[name, "exact"])
  args.out.write_text(json.dumps(report, indent=2) + "\n")
  print(table(report))


if __name__ == "__main__":
  main()
