# SPDX-License-Identifier: Apache-2.0
"""Who is shown which pair of clips, and on which sides."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from lumiere_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Showing:
  """A pair as one rater sees it.

  Attributes:
    pair: which one.
    swapped: whether the first method is on the right.
    vigilance: whether it is a check, whose second side is spoilt.
  """

  pair: int
  swapped: bool
  vigilance: bool = False


def assign(
  pairs: int, raters: int, each: int, checks: int, seed: int = 0
) -> list[list[Showing]]:
  """Lists of pairs, one for each rater.

  Every pair is shown as often as every other, to within one, to no rater twice,
  and as often on either side, to within one; neighbours in one list are not
  neighbours in another. Checks are spread over the list, never first.

  Args:
    pairs: that there are.
    raters: lists that are made.
    each: pairs of a list, checks apart.
    checks: vigilance items of a list.
    seed: of all that is random.

  Raises:
    UserError: a list would have a pair twice, or nothing in it.
  """
  if min(pairs, raters, each) < 1:
    raise UserError(
      f"{pairs} pairs, {raters} raters, {each} each: none may be 0"
    )
  if each > pairs:
    raise UserError(f"{each} pairs for each rater, but there are {pairs}")
  if not 0 <= checks <= each:
    raise UserError(f"{checks} vigilance items must be from 0 to {each}")
  rng = np.random.default_rng(seed)
  shown = np.zeros(pairs, int)
  turns = rng.integers(2, size=pairs)  # Which side the next rater sees.
  lists = []
  for _ in range(raters):
    # Those that were shown least, in random order among equals.
    order = np.lexsort((rng.random(pairs), shown))[:each]
    items = []
    for pair in rng.permutation(order):
      items.append(Showing(int(pair), bool(turns[pair])))
      shown[pair] += 1
      turns[pair] = 1 - turns[pair]
    lists.append(_with_checks(items, pairs, checks, rng))
  return lists


def _with_checks(
  items: Sequence[Showing], pairs: int, checks: int, rng: np.random.Generator
) -> list[Showing]:
  """One check behind every so many items."""
  ends = np.linspace(0, len(items), checks + 1).round().astype(int)
  found: list[Showing] = []
  for start, end in itertools.pairwise(ends):
    part = list(items[start:end])
    check = Showing(int(rng.integers(pairs)), bool(rng.integers(2)), True)
    part.insert(int(rng.integers(1, len(part) + 1)), check)
    found += part
  return found if checks else list(items)
