# SPDX-License-Identifier: Apache-2.0
"""What training takes of memory, against frames, pixels and recomputation.

python -m benchmarks.memory --config=configs/demo_t2v.py --out=memory.json

One clip. Each size and policy (`model.remat`) is a run of lumiere_jax.benchmark
in a process of its own, so that its peak is that of this size alone. Rows are
written as they come. Those that are there are kept and told, not run again; to
rows of another machine, JAX or config none are added.
"""

import argparse
import itertools
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import RESULTS, at_least
from lumiere_jax import cli
from lumiere_jax.config.network import REMAT
from lumiere_jax.errors import UserError

SIZES = ("16x32", "40x32", "80x32", "160x32", "80x64", "80x128")
POLICIES = ("none", "convs", "blocks")
# What tells machines apart, of `environment` in a result.
MACHINE = ("processor", "cores", "device", "devices")
# A process of its own holds the device no longer than it must.
ENVIRONMENT = """
import json
from lumiere_jax.benchmarking.machine import environment
print(json.dumps(environment()))
"""


def main(argv: Sequence[str]) -> None:
  flags = cli.Parser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  flags.add_argument("--config", default="configs/demo_t2v.py")
  flags.add_argument(
    "--sizes",
    nargs="+",
    type=_size,
    default=SIZES,
    help="frames x pixels, each as 80x32",
  )
  flags.add_argument(
    "--policies", nargs="+", choices=REMAT, default=list(POLICIES)
  )
  flags.add_argument("--repeats", type=at_least(1), default=2)
  flags.add_argument("--out", type=Path, default=RESULTS / "memory.json")
  args = flags.parse_args(argv)
  if not args.out.parent.is_dir():
    raise UserError(f"--out={args.out}: there is no folder {args.out.parent}")
  cli.read_recipe(args.config)
  record = read(args.out, args.config)
  done = {(row["size"], row["remat"]) for row in record["rows"]}
  for row in record["rows"]:
    print(
      f"kept: {row['size']} {row['remat']}, measured "
      f"{row['environment']['date']} on {_machine(row['environment'])}",
      file=sys.stderr,
    )
  missing = [
    pair
    for pair in itertools.product(args.sizes, args.policies)
    if pair not in done
  ]
  if not missing:
    print(
      f"nothing is measured: {args.out} has all rows; name another file with "
      "--out to measure them anew",
      file=sys.stderr,
    )
    return
  if record["rows"]:
    check_machine(record["rows"], _environment(), args.out)
  for size, policy in missing:
    record["rows"].append(_row(args.config, size, policy, args.repeats))
    args.out.write_text(json.dumps(record, indent=1) + "\n")


def _size(text: str) -> str:
  if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
    raise argparse.ArgumentTypeError(
      f"{text!r} must be frames x pixels, as 80x32"
    )
  return text


def read(path: Path, config: str) -> dict[str, Any]:
  """What is measured already; nothing if there is no such file.

  Raises:
    UserError: it is something else, or of another config.
  """
  if not path.exists():
    return {"config": config, "rows": []}
  try:
    record = json.loads(path.read_text(encoding="utf-8"))
    for row in record["rows"]:
      _ = row["size"], row["remat"], row["environment"]["date"]
      _machine(row["environment"])
    before = record["config"]
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise UserError(
      f"{path} is no result of benchmarks.memory: {error!r}"
    ) from error
  if before != config:
    raise UserError(f"{path} has rows of --config={before}, not of {config}")
  return record


def check_machine(
  rows: Sequence[Mapping[str, Any]], here: Mapping[str, Any], path: Path
) -> None:
  """Raises UserError if a row was measured elsewhere or with another JAX."""
  for row in rows:
    there = row["environment"]
    if _machine(there) != _machine(here):
      raise UserError(
        f"{path} has rows of {_machine(there)}; this is {_machine(here)}: "
        "name another file with --out"
      )


def _machine(environment: Mapping[str, Any]) -> str:
  processor, cores, device, devices = (environment[name] for name in MACHINE)
  jax = environment["versions"]["jax"]
  return f"{processor}, {cores} cores, {devices} x {device}, jax {jax}"


def _environment() -> dict[str, Any]:
  done = subprocess.run(
    [sys.executable, "-c", ENVIRONMENT],
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(done.stdout)


def _row(config: str, size: str, policy: str, repeats: int) -> dict[str, Any]:
  frames, pixels = (int(part) for part in size.split("x"))
  command = [
    "python",
    "-m",
    "lumiere_jax.benchmark",
    f"--config={config}",
    "--what=train",
    "--no_blocks",
    f"--repeats={repeats}",
    "--config.train.batch_size=1",
    f"--config.data.num_frames={frames}",
    f"--config.data.size_px={pixels}",
    f"--config.model.remat={policy}",
  ]
  print(shlex.join(command), file=sys.stderr, flush=True)
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "run.json"
    done = subprocess.run(
      [sys.executable, *command[1:], f"--out={path}"],
      stdout=subprocess.DEVNULL,
    )
    if done.returncode:
      sys.exit(done.returncode)  # It has said why.
    result = json.loads(path.read_text())
  return {
    "size": size,
    "remat": policy,
    "command": shlex.join(command),
    **{
      name: result[name]
      for name in ("environment", "counts", "compile", "time", "memory")
    },
  }


if __name__ == "__main__":
  cli.run(main)
