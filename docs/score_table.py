# SPDX-License-Identifier: Apache-2.0
"""Prints results of `lumiere_jax.score` as a table of scores by sets of clips.

python docs/score_table.py docs/runs/scores.json: in brackets the 95% interval
and, behind a semicolon, the distance of infinitely many clips; of an Inception
Score the deviation of its parts.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("result", type=Path)
  parser.add_argument("--scores", default="", help="beginnings of their names")
  args = parser.parse_args()
  print(table(args.result, tuple(args.scores.split(","))))


def table(path: Path, beginnings: tuple[str, ...] = ("",)) -> str:
  """The table of a result, in Markdown; of some scores if they are named."""
  rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
  found: dict[str, dict[str, str]] = {}
  for name, scores in rows.items():
    for row in scores:
      if (score := row["card"]["score"]).startswith(beginnings):
        found.setdefault(score, {})[name] = _told(row)
  names = [name for name in rows if any(name in of for of in found.values())]
  lines = [
    f"| score | {' | '.join(names)} |",
    f"|---|{'---|' * len(names)}",
  ]
  for score, values in found.items():
    cells = " | ".join(values.get(name, "") for name in names)
    lines.append(f"| {score} | {cells} |")
  return "\n".join(lines)


def _told(row: dict[str, Any]) -> str:
  """The value, its interval, and what it is of infinitely many clips."""
  value = _short(row["value"])
  if "interval" not in row:  # Of ten parts.
    return f"{value} (std {_short(row['std'])})"
  low, high = map(_short, row["interval"])
  infinite = f"; {_short(row['infinite'])}" if "infinite" in row else ""
  return f"{value} ({low} to {high}{infinite})"


def _short(value: float) -> str:
  return f"{0.0 if abs(value) < 1e-6 else value:.2g}"


if __name__ == "__main__":
  main()
