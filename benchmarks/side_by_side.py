# SPDX-License-Identifier: Apache-2.0
"""Our STUNet and a network that a user would pick instead, in turns.

python -m benchmarks.side_by_side --peer=motion --work=forward

The same clip, the same widths of levels, each side in a process of its own.
Writes benchmarks/results/PEER_WORK.json; with --compile,
PEER_compiled_WORK.json.
"""

from collections.abc import Sequence

from benchmarks import comparison, ours, theirs
from benchmarks.peers import PEERS, check_installed
from lumiere_jax import cli

MODULE = "benchmarks.side_by_side"


def main(argv: Sequence[str]) -> None:
  parser = comparison.parser(__doc__)
  parser.add_argument("--peer", choices=tuple(PEERS), required=True)
  parser.add_argument(
    "--layout", choices=("auto", *theirs.LAYOUTS), default="auto"
  )
  parser.add_argument("--compile", action="store_true")
  args = parser.parse_args(argv)
  size = comparison.size_of(args)
  if args.side == "ours":
    told = ours.turn("ours", size, args.work, args.repeats)
    comparison.tell(told)
    return
  if args.side:
    told = theirs.turn(
      args.peer,
      size,
      args.work,
      args.repeats,
      device=args.device,
      layout=args.layout,
      compiled=args.compile,
      first=args.turn == 0,
    )
    comparison.tell({**told, "network": args.peer, "name": "theirs"})
    return
  # Both refuse what cannot be, before all turns.
  check_installed(args.peer)
  ours.count(size, args.work)
  results = comparison.take_turns(MODULE, args, ("ours", "theirs"))
  parts = [args.peer, "compiled" if args.compile else "", args.work]
  if args.device != "cpu":
    parts.append(args.device)
  name = "_".join(filter(None, parts))
  comparison.write(name, MODULE, args, results["ours"], results["theirs"])


if __name__ == "__main__":
  cli.run(main)
