# SPDX-License-Identifier: Apache-2.0
"""Averaged weights of another length: python -m lumiere_jax.average_weights

Combines the averages that a run with `train.posthoc_ema` has stored to that of
any length, after the training (EDM2, arXiv 2312.02696, section 3). Lengths are
relative to the training until then: 0.05 averages over about its last tenth.
What is written is a weights folder like the run's own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lumiere_jax import cli, trees
from lumiere_jax.config import from_dict
from lumiere_jax.config.recipe import LONGEST_AVERAGE
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree
from lumiere_jax.training import averages, snapshots
from lumiere_jax.weights import folder
from lumiere_jax.weights.foreign import licence_text
from lumiere_jax.weights.shards import check_target

# Profiles that are further off are another average than was asked for.
_MAX_ERROR = 0.1


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(prog="lumiere_jax.average_weights", description=__doc__)
  add = parser.add_argument
  add("--workdir", required=True, help="folder of the run")
  add("--length", required=True, type=cli.number, help="e.g. 0.08")
  add("--step", type=int, help="of a snapshot; the last one if not given")
  add("--out", required=True, help="folder to write")
  args = parser.parse_args(argv)
  done = average(Path(args.workdir), args.length, args.step, Path(args.out))
  print(f"{done}: {args.out}")


def average(workdir: Path, length: float, step: int | None, out: Path) -> str:
  """Writes the weights of a run averaged over a length; returns how well.

  Args:
    workdir: of the run.
    length: relative to the steps until `step`.
    step: at which a snapshot was written; None is the last.
    out: folder to write; absent or empty.

  Raises:
    UserError: no snapshots or weights, no such step, or a length that the
      snapshots do not give.
  """
  if not 0 < length <= LONGEST_AVERAGE:
    raise UserError(f"--length={length} must be in (0, {LONGEST_AVERAGE}]")
  check_target(out)
  found = snapshots.stored(workdir)
  steps = [one.step for one in found]
  step = steps[-1] if step is None else step
  if step not in steps:
    raise UserError(
      f"--step={step} has no snapshot; choices: {', '.join(map(str, steps))}"
    )
  used = found[: steps.index(step) + 1]
  fit = averages.fit(
    [one.time for one in used for _ in one.lengths],
    [x for one in used for x in one.lengths],
    used[-1].time,
    length,
  )
  what = f"{len(used)} snapshots up to step {step}"
  if fit.error > _MAX_ERROR:
    raise UserError(
      f"--length={length} cannot be made of {what}: its profile would be off "
      f"by {fit.error:.0%}; lengths between those stored, "
      f"{', '.join(map(str, used[-1].lengths))}, can"
    )
  params, config, licence = _shipped(workdir)
  params = _replaced(params, snapshots.combined(used, fit.weights))
  dtype = from_dict(config).train.weights_dtype
  folder.save(out, params, config, licence, dtype=dtype)
  return f"{what}, profile off by {fit.error:.2%}"


def _shipped(workdir: Path) -> tuple[PyTree, dict[str, Any], str]:
  """Parameters, configuration and licence of a run's own weights."""
  shipped = workdir / "weights"
  if not shipped.is_dir():
    raise UserError(
      f"no weights in {workdir}: a run writes them when it ends or is stopped"
    )
  params, config, _ = folder.load(shipped)
  return params, config, licence_text(shipped)


def _replaced(params: PyTree, trained: PyTree) -> PyTree:
  """Parameters of which those that train are others; the frozen stay."""
  paths = trees.flatten(trained)
  own, frozen = trees.split(params, paths.__contains__)
  difference = trees.diff(own, trained)
  if difference:
    raise UserError(f"the averages do not fit the run's weights: {difference}")
  return trees.merge(trained, frozen)


if __name__ == "__main__":
  cli.run(main)
