# SPDX-License-Identifier: Apache-2.0
"""Runs two sides of a comparison in turns, and writes down what came out.

Each turn is a process of its own, so that neither framework's threads, caches
nor freed memory are in the other's way, and turns alternate, so that whatever
the machine does beside them hits both.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lumiere_jax import cli
from lumiere_jax.errors import UserError

RESULTS = Path(__file__).resolve().parent / "results"
WORKS = ("forward", "train", "train_temporal")
LIBRARIES = (
  "jax",
  "jaxlib",
  "flax",
  "optax",
  "numpy",
  "torch",
  "diffusers",
  "lumiere-pytorch",
  "denoising-diffusion-pytorch",
  "x-transformers",
)


@dataclass(frozen=True)
class Size:
  """What both networks are given, and how wide they are.

  Attributes:
    frames: of the one clip.
    pixels: its height and width.
    channels: width of each level, finest first.
    groups: of every group norm.
    tokens: of the text.
    text_width: of its features.
  """

  frames: int
  pixels: int
  channels: tuple[int, ...]
  groups: int
  tokens: int
  text_width: int


def at_least(least: int) -> Callable[[str], int]:
  """Reads a whole number of the command line that must not be smaller."""

  def whole(text: str) -> int:
    if not text.isdecimal() or int(text) < least:
      raise argparse.ArgumentTypeError(
        f"{text!r} must be a whole number >= {least}"
      )
    return int(text)

  return whole


def widths(text: str) -> tuple[int, ...]:
  """Reads "32,64,128"."""
  return tuple(at_least(1)(part) for part in text.split(","))


def parser(doc: str | None) -> cli.Parser:
  """The flags that all comparisons share."""
  flags = cli.Parser(
    description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  count = at_least(1)
  flags.add_argument("--work", choices=WORKS, default="forward")
  flags.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
  flags.add_argument("--frames", type=count, default=80)
  flags.add_argument("--pixels", type=count, default=32)
  flags.add_argument("--channels", type=widths, default=(32, 64, 128))
  flags.add_argument("--groups", type=count, default=8)
  flags.add_argument("--tokens", type=count, default=24)
  flags.add_argument("--text_width", type=count, default=128)
  flags.add_argument("--repeats", type=count, default=5, help="of each turn")
  flags.add_argument("--turns", type=count, default=2, help="of each side")
  flags.add_argument("--out", type=Path, default=RESULTS, help="a folder")
  # What a turn's own process is told.
  flags.add_argument("--side", default="", help=argparse.SUPPRESS)
  flags.add_argument("--turn", type=int, default=0, help=argparse.SUPPRESS)
  return flags


def size_of(args: argparse.Namespace) -> Size:
  """The size that the flags say."""
  return Size(
    args.frames,
    args.pixels,
    args.channels,
    args.groups,
    args.tokens,
    args.text_width,
  )


def take_turns(
  module: str, args: argparse.Namespace, sides: Sequence[str]
) -> dict[str, dict[str, Any]]:
  """Runs each side `args.turns` times, one after the other.

  A turn is told its number and what the first one of its side has chosen
  ("--layout"), and prints its result as the last line.

  Returns:
    Of each side what its first turn tells, and the times of all turns.
  """
  results: dict[str, dict[str, Any]] = {}
  for turn in range(args.turns):
    for side in sides:
      told = [f"--side={side}", f"--turn={turn}"]
      if chosen := results.get(side, {}).get("layout"):
        told.append(f"--layout={chosen}")
      if results.get(side, {}).get("failed"):
        continue
      print(f"{side}, turn {turn + 1} of {args.turns}", file=sys.stderr)
      result = _run_side(module, [*sys.argv[1:], *told], args.device)
      times = result.pop("times", None)
      first = results.setdefault(side, {**result, "turns": []})
      first["peak_rss_bytes"] = max(
        first["peak_rss_bytes"], result["peak_rss_bytes"]
      )
      if times:
        first["turns"].append(times)
        print(f"  {times['median']:.3f} s", file=sys.stderr)
  return results


def _run_side(module: str, flags: Sequence[str], device: str) -> dict[str, Any]:
  env = dict(os.environ)
  if device == "cpu":
    env["JAX_PLATFORMS"] = "cpu"
  done = subprocess.run(
    [sys.executable, "-m", module, *flags],
    env=env,
    stdout=subprocess.PIPE,
    text=True,
  )
  if done.returncode:
    raise UserError(f"{shlex.join(flags)} ended with status {done.returncode}")
  return json.loads(done.stdout.splitlines()[-1])


def tell(result: dict[str, Any]) -> None:
  """What a turn's process ends with."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(json.dumps({**result, "peak_rss_bytes": peak}))


def summed_up(side: dict[str, Any], frames: int) -> dict[str, Any]:
  """A side's result and the rates that follow from the median of all runs."""
  times = [s for turn in side["turns"] for s in turn["each"]]
  if not times:
    return side
  median = statistics.median(times)
  return {
    **side,
    "median_seconds": median,
    "frames_per_second": frames / median,
    "achieved_flops_per_second": side["flops"] / median,
  }


def write(
  name: str,
  module: str,
  args: argparse.Namespace,
  first: dict[str, Any],
  second: dict[str, Any],
) -> Path:
  """Writes a comparison as JSON, and prints its ratios.

  Args:
    name: of the file, without its ending.
    module: what was run.
    args: its flags.
    first: the side whose speed is told as a multiple of the other's.
    second: the other side.
  """
  sides = [summed_up(side, args.frames) for side in (first, second)]
  record = {
    "command": shlex.join(["python", "-m", module, *_told(sys.argv[1:])]),
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "machine": machine(args.device),
    "versions": versions(),
    "work": args.work,
    "size": asdict(size_of(args)),
    sides[0]["name"]: sides[0],
    sides[1]["name"]: sides[1],
  }
  one, other = sides
  for ratio, key in (
    ("ratio", "frames_per_second"),
    ("flops_ratio", "flops"),
    ("achieved_ratio", "achieved_flops_per_second"),
    ("parameter_ratio", "parameters"),
  ):
    told = key in one and key in other
    record[ratio] = one[key] / other[key] if told else None
    print(f"{ratio}: {record[ratio]}")
  args.out.mkdir(parents=True, exist_ok=True)
  path = args.out / f"{name}.json"
  path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
  return path


def _told(flags: Sequence[str]) -> list[str]:
  """The flags that say what was measured; not where it was written."""
  return [flag for flag in flags if not flag.startswith("--out")]


def machine(device: str) -> dict[str, Any]:
  """What it ran on."""
  told = {
    "device": device,
    "cpu": _cpu(),
    "cores": len(os.sched_getaffinity(0)),
    "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    "system": f"{platform.system()} {platform.machine()}",
    "python": platform.python_version(),
  }
  if device == "gpu":
    listed = subprocess.run(
      ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
      capture_output=True,
      text=True,
    )
    told["gpu"] = listed.stdout.strip()
  return told


def _cpu() -> str:
  try:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
  except OSError:
    return platform.processor()
  names = [
    line.partition(":")[2].strip() for line in lines if "model name" in line
  ]
  return names[0] if names else platform.processor()


def versions() -> dict[str, str]:
  """Of all libraries that take part and are installed."""
  found = {}
  for name in LIBRARIES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
