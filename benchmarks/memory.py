# SPDX-License-Identifier: Apache-2.0
"""What training takes of memory, against frames, pixels and recomputation.

python -m benchmarks.memory --config=configs/demo_t2v.py --out=memory.json

One clip. Each size and policy (`model.remat`) is a run of lumiere_jax.benchmark
in a process of its own, so that its peak is that of this size alone. Rows are
written as they come, and those that are there are not run again.
"""

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import RESULTS

SIZES = ("16x32", "40x32", "80x32", "160x32", "80x64", "80x128")
POLICIES = ("none", "convs", "blocks")


def main(argv: Sequence[str] | None = None) -> None:
  flags = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  flags.add_argument("--config", default="configs/demo_t2v.py")
  flags.add_argument(
    "--sizes", nargs="+", default=SIZES, help="frames x pixels, each as 80x32"
  )
  flags.add_argument("--policies", nargs="+", default=POLICIES)
  flags.add_argument("--repeats", type=int, default=2)
  flags.add_argument("--out", type=Path, default=RESULTS / "memory.json")
  args = flags.parse_args(argv)
  record = {"config": args.config, "rows": []}
  if args.out.is_file():
    record = json.loads(args.out.read_text())
  done = {(row["size"], row["remat"]) for row in record["rows"]}
  for size, policy in itertools.product(args.sizes, args.policies):
    if (size, policy) not in done:
      record["rows"].append(_row(args.config, size, policy, args.repeats))
      args.out.write_text(json.dumps(record, indent=1) + "\n")


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
    subprocess.run(
      [sys.executable, *command[1:], f"--out={path}"],
      check=True,
      stdout=subprocess.DEVNULL,
    )
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
  main()
