# SPDX-License-Identifier: Apache-2.0
"""A result for people."""

from collections.abc import Mapping
from typing import Any

_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def as_text(result: Mapping[str, Any]) -> str:
  """All figures of a result, as lines; what it does not have is left out."""
  machine = result["environment"]
  lines = [
    f"{result['config']}: {result['what']} of {result['clips']} clips of "
    f"{result['frames']} frames of {result['size_px']} px, "
    f"{result['dtype']}, {machine['devices']} x {machine['device']} "
    f"({machine['processor']}, {machine['cores']} cores), jax "
    f"{machine['versions']['jax']}"
  ]
  for name in (
    "counts",
    "compile",
    "time",
    "throughput",
    "memory",
    "utilization",
    "source",
  ):
    part = result.get(name)
    if part:
      lines += ["", f"{name}:"]
      lines += [
        f"  {key:<28} {_figure(key, value)}" for key, value in part.items()
      ]
  if blocks := result.get("blocks"):
    lines += ["", "blocks:", *_blocks(blocks)]
    if share := result.get("blocks_share"):
      lines.append(f"  all of them {share:.0%} of the whole")
  return "\n".join(lines)


def _blocks(blocks: list[Mapping[str, Any]]) -> list[str]:
  total = sum(block["seconds"] for block in blocks)
  head = (
    f"  {'':<8} {'frames':>6} {'pixels':>6} {'ms':>9} {'share':>6} "
    f"{'GFLOP':>9} {'GFLOP/s':>9} {'FLOP/B':>7} {'GB/s':>7}"
  )
  return [
    head,
    *(
      f"  {b['name']:<8} {b['frames']:>6} {b['pixels']:>6} "
      f"{1e3 * b['seconds']:>9.2f} {b['seconds'] / total:>6.1%} "
      f"{b['flops'] / 1e9:>9.3f} {b['flops_per_second'] / 1e9:>9.1f} "
      f"{b['flops_per_byte']:>7.1f} {b['bytes_per_second'] / 1e9:>7.1f}"
      for b in blocks
    ),
  ]


def _figure(name: str, value: Any) -> str:
  if value is None:
    return "n/a"
  if isinstance(value, list):
    return " ".join(_figure(name, item) for item in value)
  if not isinstance(value, int | float) or isinstance(value, bool):
    return str(value)
  if abs(value) < 1e4:
    return f"{value:.4g}"
  for factor, prefix in _UNITS:
    if abs(value) >= factor:
      return f"{value / factor:.4g} {prefix}"
  return str(value)
