# SPDX-License-Identifier: Apache-2.0
"""What resampling of time is worth: our STUNet with and without it, in turns.

python -m benchmarks.resampling --work=forward --frames=80

The network without (`model.temporal.resample=False`) keeps all frames on all
levels, as other inflated U-Nets do. Writes
benchmarks/results/resampling_FRAMES_WORK.json.
"""

from collections.abc import Sequence

from benchmarks import comparison, ours
from lumiere_jax import cli

MODULE = "benchmarks.resampling"
SIDES = {"resampled": True, "plain": False}


def main(argv: Sequence[str]) -> None:
  args = comparison.parser(__doc__).parse_args(argv)
  size = comparison.size_of(args)
  if args.side:
    told = ours.turn(
      args.side,
      size,
      args.work,
      args.repeats,
      resample=SIDES[args.side],
    )
    comparison.tell(told)
    return
  ours.count(size, args.work)  # Refuses what cannot be, before all turns.
  results = comparison.take_turns(MODULE, args, tuple(SIDES))
  parts = ["resampling", str(args.frames), args.work]
  if args.device != "cpu":
    parts.append(args.device)
  comparison.write(
    "_".join(parts), MODULE, args, results["resampled"], results["plain"]
  )


if __name__ == "__main__":
  cli.run(main)
