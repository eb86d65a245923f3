# SPDX-License-Identifier: Apache-2.0
"""What training or sampling would take of devices that need not be there:
python -m lumiere_jax.plan --config=... --topology=v5p:4x4x4 --what=train

The program is compiled for a slice of TPUs ("v5e:4x4", "v5p:4x4x4", "v6e:8x8*2"
for two slices), for hosts of GPUs ("h100:8", "h200:8x2") or for the devices
that there are ("local"), and nothing runs. If it does not fit, changes are
tried until it does. TPUs need pip install 'lumiere_jax[plan]', GPUs JAX's CUDA
plugin.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lumiere_jax import cli, media
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.linked import weights_config
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
  add(
    "--clips",
    type=int,
    default=0,
    help="sampled at once, on all devices; 0 is as few as they can share",
  )
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
  prepare(args.topology)
  cfg = cli.resolve(_values(args.config, args.what), overrides)
  topology = find_topology(args.topology)
  # Before the minutes of compiling, not after them.
  file = media.new_file(args.out) if args.out else contextlib.nullcontext()
  with file as out:
    plan = make_plan(Task(cfg, args.what, args.clips), topology)
    print(as_text(plan), flush=True)
    tried = []
    if plan.fits is False and args.tries:
      tried = _advise(find_fit(plan, args.tries, _tell))
    if out:
      text = json.dumps(as_dict(plan, tried), indent=2)
      out.write_text(text + "\n", encoding="utf-8")


def _values(path: str, what: str) -> Mapping[str, Any]:
  """The configuration as training reads it, or sampling: as of the weights."""
  if what == "train":
    return cli.read_recipe(path)
  file = cli.read_config(path)
  name = file.get("weights")
  return weights_config(name, file) if name else file


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
