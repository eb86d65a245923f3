# SPDX-License-Identifier: Apache-2.0
"""How many clips a score needs."""

from lumiere_jax.errors import UserError

PROJECTED = 64  # Dimensions that a Frechet distance of few clips keeps.
SPLITS = 10  # Of the Inception Score, as its paper has it.
CLIPS_PER_DIMENSION = 2  # Fewer make no stable covariance.


def is_stable(clips: int, dimensions: int) -> bool:
  """Whether so many clips make a stable covariance."""
  return clips >= CLIPS_PER_DIMENSION * dimensions


def lacking(
  name: str, real: int, made: int, dimensions: int, *, allow_small: bool
) -> dict[str, str]:
  """Which Frechet distances `rows_beside` leaves out of so few clips, and why.

  Args:
    name: of that in all dimensions.
    real: clips, of which halves are compared, too.
    made: generated clips.
    dimensions: of the features.
    allow_small: whether it is measured of few clips, too.

  Returns:
    The reason, by the name of what is missing. Halves are those that the floor
    and the canaries are of.
  """
  widths = {name: dimensions}
  if dimensions > PROJECTED:
    widths[f"{name}{PROJECTED}"] = PROJECTED
  counts = {"": min(real, made), " of halves": real // 2}
  return {
    name + of: f"{clips} clips of each kind are fewer than "
    f"{CLIPS_PER_DIMENSION * width}, {CLIPS_PER_DIMENSION} for each of "
    f"{width} dimensions (--allow_small)"
    for name, width in widths.items()
    for of, clips in counts.items()
    if not (allow_small or is_stable(clips, width))
  }


def check_enough(
  real: int, made: int, dimensions: int, *, allow_small: bool = False
) -> None:
  """Refuses sets of which no Frechet distance is stable.

  Args:
    real: clips, of which halves are compared, too.
    made: generated clips.
    dimensions: of the features.
    allow_small: whether to pass all sets that can be measured at all.

  Raises:
    UserError: fewer than two clips for each dimension that is kept, or than
      have a covariance where half of them is left out (`extrapolate`).
  """
  for name, count, needed in (("real", real, 8), ("generated", made, 4)):
    if count < needed:
      raise UserError(
        f"{count} {name} clips are too few to score: {needed} are needed"
      )
  if allow_small:
    return
  kept = min(dimensions, PROJECTED)
  if not is_stable(least := min(real, made), kept):
    raise UserError(
      f"{least} clips are too few for a stable covariance of {kept} "
      f"dimensions: {CLIPS_PER_DIMENSION * kept} of each kind are needed; "
      "--allow_small measures them all the same"
    )


def check_splits(
  clips: int,
  classes: int,
  splits: int = SPLITS,
  *,
  allow_small: bool = False,
  what: str = "",
) -> None:
  """Refuses sets of which no Inception Score is to be trusted.

  Args:
    clips: of a set.
    classes: that are told.
    splits: parts of the set.
    allow_small: whether to pass all sets that can be measured at all.
    what: the clips, as a message says them; "" is how many.

  Raises:
    UserError: fewer clips than classes in each part, or than parts.
  """
  what = what or f"{clips} clips"
  least = splits if allow_small else splits * classes
  if clips >= least:
    return
  if allow_small:
    raise UserError(
      f"{what} cannot be split into the {splits} parts of an Inception Score"
    )
  raise UserError(
    f"{what} are too few for an Inception Score of {splits} parts with "
    f"{classes} classes: {least} are needed; --allow_small measures them all "
    "the same"
  )
