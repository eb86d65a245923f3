# SPDX-License-Identifier: Apache-2.0
"""What training or sampling would take of devices that need not be there:
python -m lumiere_jax.plan --config=... --topology=v5p:4x4x4 --what=train

The program is compiled for a slice of TPUs ("v5e:4x4", "v5p:4x4x4", "v6e:8x8*2"
for two slices), for hosts of GPUs ("h100:8", "h200:8x2") or for the devices
that there are ("local"), and nothing runs. If it does not fit, changes are
tried until it does. TPUs need pip install 'lumiere_jax[plan]', GPUs JAX's CUDA
plugin.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from lumiere_jax import cli, media
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.planning import WHATS, Advice, Task, find_fit, make_plan
from lumiere_jax.planning.report import as_dict, as_text, verdict
from lumiere_jax.profiling.topology import LOCAL, find_topology, prepare


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(prog="lumiere_jax.plan", description=__doc__)
  add = parser.add_argument
  add("--config", required=True, help="a configs/*.py file")
  add("--topology", default=LOCAL, help="devices, by default those here")
  add("--what", default="train", help=" or ".join(WHATS))
  add("--clips", type=int, default=0, help="sampled at once, on all devices")
  add("--tries", type=int, default=8, help="changes tried if it does not fit")
  add("--out", help="JSON file to write")
  args, overrides = cli.parse(parser, argv)
  if args.what not in WHATS:
    raise UserError(f"--what={args.what!r}{nearest(args.what, WHATS)}")
  for name in ("clips", "tries"):
    if getattr(args, name) < 0:
      parser.error(f"--{name}={getattr(args, name)} must be >= 0")
  if args.clips and args.what == "train":
    parser.error("--clips is of sampling; set --config.train.batch_size")
  if args.out:
    media.check_free(args.out)
  prepare(args.topology)
  cfg = cli.resolve(cli.read_config(args.config), overrides)
  topology = find_topology(args.topology)
  plan = make_plan(Task(cfg, args.what, args.clips), topology)
  print(as_text(plan), flush=True)
  tried = []
  if plan.fits is False and args.tries:
    tried = _advise(find_fit(plan, args.tries, _tell))
  if args.out:
    text = json.dumps(as_dict(plan, tried), indent=2)
    Path(args.out).write_text(text + "\n", encoding="utf-8")


def _tell(advice: Advice) -> None:
  print(f"tried {advice.flags}: {verdict(advice.plan)}", flush=True)


def _advise(tried: list[Advice]) -> list[Advice]:
  if tried and tried[-1].plan.fits:
    print(f"\nWith {tried[-1].flags}:\n{as_text(tried[-1].plan)}")
  else:
    print("none of it is enough: take more devices, or smaller clips")
  return tried


if __name__ == "__main__":
  cli.run(main)
