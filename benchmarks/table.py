# SPDX-License-Identifier: Apache-2.0
"""Prints the tables of docs/side_by_side.md from what was measured.

python -m benchmarks.table
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.comparison import RESULTS, WORKS

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


def _row(*cells: str) -> str:
  return f"| {' | '.join(cells)} |"


def _number(value: float | None, digits: int, unit: str = "") -> str:
  return "-" if value is None else f"{value:.{digits}f}{unit}"


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


def main() -> None:
  records = read()
  print("\n".join(side_by_side(records)), end="\n\n")
  print("\n".join(resampling(records)))


if __name__ == "__main__":
  main()
