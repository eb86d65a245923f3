# SPDX-License-Identifier: Apache-2.0
"""Prints the tables of docs/ from what was measured.

python -m benchmarks.table
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import RESULTS, WORKS
from lumiere_jax import cli

NAMES = {
  "lumiere_pytorch": "lumiere-pytorch",
  "motion": "UNetMotionModel",
  "unet3d": "UNet3DConditionModel",
}
WORDS = {
  "forward": "forward",
  "train": "step, all parameters",
  "train_temporal": "step, temporal ones",
}
GIB = 2**30


def read(folder: Path = RESULTS) -> list[dict[str, Any]]:
  """All results of a folder."""
  return [
    json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))
  ]


def side_by_side(records: list[dict[str, Any]]) -> Iterator[str]:
  """Ours against other projects' networks."""
  yield (
    "| against | run by | work | frames/s: ours | theirs | ratio "
    "| GFLOP: ours | theirs | GFLOP/s: ours | theirs | ratio "
    "| parameters: ours | theirs |"
  )
  yield "|---|---|---|" + "--:|" * 10
  rows = [r for r in records if "theirs" in r]
  rows.sort(
    key=lambda r: (
      tuple(NAMES).index(r["theirs"]["network"]),
      r["theirs"]["framework"],
      WORKS.index(r["work"]),
    )
  )
  for r in rows:
    ours, theirs = r["ours"], r["theirs"]
    yield _row(
      NAMES[theirs["network"]],
      _run_by(theirs),
      WORDS[r["work"]],
      *_pair(ours, theirs, "frames_per_second", 1, 1),
      _number(r["ratio"], 2),
      *_pair(ours, theirs, "flops", 1e9, 0),
      *_pair(ours, theirs, "achieved_flops_per_second", 1e9, 0),
      _number(r["achieved_ratio"], 2),
      *_pair(ours, theirs, "parameters", 1e6, 2, " M"),
    )


def _run_by(side: dict[str, Any]) -> str:
  layout = {"channels_last": ", channels last"}.get(side.get("layout"), "")
  return side["framework"] + layout


def resampling(records: list[dict[str, Any]]) -> Iterator[str]:
  """Ours with and without resampling of time."""
  yield (
    "| frames | work | frames/s: with | without | ratio "
    "| GFLOP: with | without | ratio | program, GiB: with | without "
    "| process, GiB: with | without |"
  )
  yield "|--:|---|" + "--:|" * 10
  rows = [r for r in records if "resampled" in r]
  rows.sort(key=lambda r: (WORKS.index(r["work"]), r["size"]["frames"]))
  for r in rows:
    sides = r["resampled"], r["plain"]
    yield _row(
      str(r["size"]["frames"]),
      WORDS[r["work"]],
      *_pair(*sides, "frames_per_second", 1, 1),
      _number(r["ratio"], 2),
      *_pair(*sides, "flops", 1e9, 0),
      _number(r["flops_ratio"], 2),
      *(_number(s["program_bytes"]["peak"] / GIB, 2) for s in sides),
      *_pair(*sides, "peak_rss_bytes", GIB, 2),
    )


def runs(records: list[dict[str, Any]]) -> Iterator[str]:
  """Ours by itself: results of lumiere_jax.benchmark."""
  yield (
    "| config | what | clips | s | quartiles | frames/s | GFLOP/s "
    "| of the peak | GB/s | process, GiB |"
  )
  yield "|---|---|" + "--:|" * 8
  for r in records:
    timing, used = r["time"], r["utilization"]
    low, high = timing["quartiles"]
    yield _row(
      r["config"],
      r["what"],
      str(r["clips"]),
      _number(timing["median"], 2),
      f"{low:.2f} to {high:.2f}",
      _number(r["throughput"]["frames_per_second"], 1),
      _number(used["achieved_flops"] / 1e9, 0),
      _percent(used["mfu"]),
      _number(used["bytes_per_second"] / 1e9, 1),
      _number(r["memory"]["process_peak"] / GIB, 2),
    )


def compilation(records: list[dict[str, Any]]) -> Iterator[str]:
  """What comes before the first result, in seconds."""
  yield (
    "| config | what | import, build | trace | compile | to the first result "
    "| second start |"
  )
  yield "|---|---|" + "--:|" * 5
  for r in records:
    yield _row(
      r["config"],
      r["what"],
      *(
        _number(r["compile"][key], 1)
        for key in ("import_and_build", "trace", "compile")
      ),
      _number(r["throughput"]["seconds_to_first"], 1),
      _number(r["compile"]["second_start"], 1),
    )


def blocks(record: dict[str, Any]) -> Iterator[str]:
  """The blocks of a network, each by itself."""
  yield "| block | frames | pixels | ms | share | GFLOP | GFLOP/s | GB/s |"
  yield "|---|" + "--:|" * 7
  total = sum(block["seconds"] for block in record["blocks"])
  for b in record["blocks"]:
    yield _row(
      f"`{b['name']}`",
      str(b["frames"]),
      str(b["pixels"]),
      _number(1e3 * b["seconds"], 1),
      _percent(b["seconds"] / total),
      _number(b["flops"] / 1e9, 2),
      _number(b["flops_per_second"] / 1e9, 0),
      _number(b["bytes_per_second"] / 1e9, 1),
    )


def memory(record: dict[str, Any]) -> Iterator[str]:
  """What training takes of memory (`benchmarks.memory`)."""
  figures = {
    "program, GiB": lambda row: row["memory"]["program_peak"] / GIB,
    "process, GiB": lambda row: row["memory"]["process_peak"] / GIB,
    "s": lambda row: row["time"]["median"],
  }
  policies = list(dict.fromkeys(row["remat"] for row in record["rows"]))
  heads = [f"{head}: {name}" for head in figures for name in policies]
  yield f"| frames x pixels | {' | '.join(heads)} |"
  yield "|---|" + "--:|" * len(heads)
  found = {(row["size"], row["remat"]): row for row in record["rows"]}
  for size in dict.fromkeys(row["size"] for row in record["rows"]):
    rows = [found.get((size, name)) for name in policies]
    yield _row(
      size,
      *(
        _number(row and figure(row), 2)
        for figure in figures.values()
        for row in rows
      ),
    )


def forms(record: dict[str, Any]) -> Iterator[str]:
  """The forms of the temporal convolution (`benchmarks.temporal_forms`)."""
  keys = [key for key in record["rows"][0] if key.endswith("_ms")]
  heads = [key.removesuffix("_ms").replace("_", " ") for key in keys]
  yield (
    "| frames | pixels | channels | stride | "
    + " | ".join(f"{head}, ms" for head in heads)
    + " |"
  )
  yield "|--:|--:|--:|--:|" + "--:|" * len(keys)
  for row in record["rows"]:
    sizes = (row[name] for name in ("frames", "pixels", "channels", "stride"))
    yield _row(*map(str, sizes), *(_number(row[key], 1) for key in keys))


def _row(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int, unit: str = "") -> str:
  return "-" if value is None else f"{value:.{digits}f}{unit}"


def _percent(share: float) -> str:
  return f"{100 * share:.0f}%"


def _pair(
  one: dict[str, Any],
  other: dict[str, Any],
  key: str,
  scale: float,
  digits: int,
  unit: str = "",
) -> list[str]:
  return [
    _number(side[key] / scale if key in side else None, digits, unit)
    for side in (one, other)
  ]


def documents() -> dict[str, list[list[str]]]:
  """The tables of each document, by its name in docs/."""
  records, own = read(), read(RESULTS / "runs")
  return {
    "side_by_side.md": [list(side_by_side(records)), list(resampling(records))],
    "benchmarks.md": [
      list(runs(own)),
      list(compilation(own)),
      *(list(blocks(r)) for r in own if "blocks" in r),
      list(memory(_read_one("memory"))),
      list(forms(_read_one("forms_cpu"))),
    ],
  }


def _read_one(name: str) -> dict[str, Any]:
  return json.loads((RESULTS / f"{name}.json").read_text())


def main(argv: Sequence[str]) -> None:
  cli.Parser(prog="benchmarks.table", description=__doc__).parse_args(argv)
  for name, tables in documents().items():
    for table in tables:
      print(f"docs/{name}:", *table, "", sep="\n")


if __name__ == "__main__":
  cli.run(main)
