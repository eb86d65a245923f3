# SPDX-License-Identifier: Apache-2.0
"""Plans the big models' training on slices of TPUs, and prints the tables.

python docs/pod_plans.py --out=docs/plans            # compiles: hours
python docs/pod_plans.py --out=docs/plans --tables   # prints what is there

Each row of PLANS is a run of `python -m lumiere_jax.plan` in a process of its
own, whose JSON lies in --out; what lies there already is not compiled again.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lumiere_jax import cli
from lumiere_jax.errors import UserError

_CONFIGS = Path(__file__).parent.parent / "configs"


_COLUMNS = (
  "slice",
  "clips",
  "remat",
  "peak GiB",
  "of GiB",
  "state GiB",
  "TFLOP a device",
  "program / by hand",
  "GB accessed",
  "GB exchanged",
  "bound by",
  "ms a step",
  "clips/s",
  "MFU",
  "weak scaling",
)


class Row(NamedTuple):
  """One plan.

  Attributes:
    config: a file of configs/.
    topologies: slices of one kind, ascending.
    fsdp: devices that share the state.
    frames: devices that share a clip.
    clips: of each such group.
  """

  config: str
  topologies: tuple[str, ...]
  fsdp: int
  frames: int = 1
  clips: int = 1


# What fits: a clip of the base takes 68 GiB beside the state, and is shared by
# devices that have less.
PLANS = (
  Row("ssr_1024", ("v5p:2x2x2", "v5p:4x4x4", "v5p:4x8x8"), 8, clips=4),
  Row("lumiere_128", ("v5p:2x2x2", "v5p:4x4x4", "v5p:4x8x8"), 8),
  Row("if_xl", ("v5p:2x2x2", "v5p:4x4x4", "v5p:4x8x8"), 8),
  Row("ssr_1024", ("v6e:2x4", "v6e:8x8", "v6e:16x16"), 8, clips=4),
  Row("lumiere_128", ("v6e:2x4", "v6e:8x8", "v6e:16x16"), 2, 4),
  Row("if_xl", ("v6e:2x4", "v6e:8x8", "v6e:16x16"), 8),
  Row("ssr_1024", ("v5e:2x4", "v5e:8x8", "v5e:16x16"), 8, clips=4),
  Row("lumiere_128", ("v5e:4x8", "v5e:8x8", "v5e:16x16"), 4, 8),
  Row("if_xl", ("v5e:8x8", "v5e:16x16"), 16, 4),
)


def main(argv: Sequence[str]) -> None:
  parser = cli.Parser(prog="docs/pod_plans.py", description=__doc__)
  parser.add_argument("--out", required=True, help="folder of the plans")
  parser.add_argument("--tables", action="store_true", help="compile nothing")
  parser.add_argument("--only", default="", help="part of a plan's name")
  args, overrides = cli.parse(parser, argv)
  if overrides:
    raise UserError("the plans are those of PLANS; nothing can be overridden")
  folder = Path(args.out)
  if not args.tables:
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in _commands():
      path = folder / f"{name}.json"
      if args.only in name and not path.exists():
        print(name, flush=True)
        subprocess.run([*command, f"--out={path}"], check=True)
  print("\n\n".join(_tables(folder)))


def _commands() -> Iterator[tuple[str, list[str]]]:
  """A name and the command of each plan."""
  # The smallest first, then the largest, which tell most.
  for i in (0, -1, *range(1, max(len(row.topologies) for row in PLANS) - 1)):
    for row in PLANS:
      yield _name(row, row.topologies[i]), _command(row, row.topologies[i])


def _command(row: Row, topology: str) -> list[str]:
  devices = _devices(topology)
  return [
    sys.executable,
    "-m",
    "lumiere_jax.plan",
    f"--config={_CONFIGS / row.config}.py",
    f"--topology={topology}",
    f"--config.mesh.fsdp={row.fsdp}",
    f"--config.mesh.frames={row.frames}",
    f"--config.train.batch_size={row.clips * devices // row.frames}",
    "--tries=0",
  ]


def _name(row: Row, topology: str) -> str:
  return f"{row.config}_{topology.replace(':', '_').replace('*', '_')}"


def _devices(topology: str) -> int:
  shape, _, slices = topology.partition(":")[2].partition("*")
  count = int(slices or 1)
  for size in shape.split("x"):
    count *= int(size)
  return count


def _tables(folder: Path) -> Iterator[str]:
  """A table for each model: memory, work and time by slice."""
  names = dict.fromkeys(row.config for row in PLANS)
  for config in names:
    lines = [
      f"### {config}",
      "",
      f"| {' | '.join(_COLUMNS)} |",
      "|---" * len(_COLUMNS) + "|",
    ]
    for row in PLANS:
      first = None
      for topology in row.topologies if row.config == config else ():
        path = folder / f"{_name(row, topology)}.json"
        if path.exists():
          plan = _chosen(json.loads(path.read_text()))
          rate = plan["roofline"] and _rate_per_device(plan)
          first = first or rate
          lines.append(_line(plan, rate and rate / first))
    yield "\n".join(lines)


def _chosen(plan: dict[str, Any]) -> dict[str, Any]:
  """The plan, or what was tried last to make it fit."""
  return plan["tried"][-1] if plan.get("tried") else plan


def _rate_per_device(plan: dict[str, Any]) -> float:
  return plan["roofline"]["clips_per_second"] / plan["topology"]["devices"]


def _line(plan: dict[str, Any], scaling: float | None) -> str:
  memory, flops, line = plan["memory"], plan["flops"], plan["roofline"]
  state = sum(memory[k] for k in ("parameters", "frozen", "ema", "optimizer"))
  cells = [
    plan["topology"]["name"],
    str(plan["clips"]),
    plan["remat"],
    _cell(memory["peak"], 2**30),
    _cell(memory["limit"], 2**30),
    _cell(state, 2**30),
    _cell(flops["multiplied_per_device"], 1e12),
    _cell(flops["compiled_over_analytic"], 1, 3),
    _cell(plan["bytes_accessed"], 1e9),
  ]
  if line is None:
    cells += ["does not fit", *["-"] * 5]
  else:
    moved = sum(c["bytes"] for c in plan["collectives"])
    cells += [
      _cell(moved, 1e9),
      line["binding"],
      _cell(line["seconds"], 1e-3, 0),
      _cell(line["clips_per_second"], 1, 2),
      f"{line['model_flops_utilization']:.0%}",
      _cell(scaling, 1, 3),
    ]
  return f"| {' | '.join(cells)} |"


def _cell(value: float | None, unit: float, digits: int = 1) -> str:
  return "-" if value is None else f"{value / unit:,.{digits}f}"


if __name__ == "__main__":
  cli.run(main)
