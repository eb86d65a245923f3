# SPDX-License-Identifier: Apache-2.0
import itertools
from collections import Counter

import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.survey.design import assign


@pytest.mark.parametrize(
  ("pairs", "raters", "each", "checks"),
  [(12, 9, 5, 2), (10, 20, 10, 3), (7, 3, 2, 0), (5, 4, 5, 5)],
)
def test_pairs_and_sides_are_balanced(pairs, raters, each, checks):
  lists = assign(pairs, raters, each, checks, seed=1)
  assert len(lists) == raters
  shown = Counter()
  sides = {pair: Counter() for pair in range(pairs)}
  for items in lists:
    asked = [item for item in items if not item.vigilance]
    assert len(asked) == each == len({item.pair for item in asked})
    assert len(items) == each + checks
    assert not items[0].vigilance
    for item in asked:
      shown[item.pair] += 1
      sides[item.pair][item.swapped] += 1
  times = [shown[pair] for pair in range(pairs)]
  assert max(times) - min(times) <= 1
  assert all(abs(s[True] - s[False]) <= 1 for s in sides.values())


def test_orders_and_sides_are_random_but_fixed():
  lists = assign(8, 50, 8, 2, seed=3)
  assert lists == assign(8, 50, 8, 2, seed=3) != assign(8, 50, 8, 2, seed=4)
  firsts = Counter(items[0].pair for items in lists)
  assert len(firsts) == 8
  checks = [item for items in lists for item in items if item.vigilance]
  assert 25 < sum(item.swapped for item in checks) < 75
  follows = Counter()
  for items in lists:
    asked = [item.pair for item in items if not item.vigilance]
    follows.update(itertools.pairwise(asked))
  # 350 neighbours among 56 ordered ones.
  assert max(follows.values()) < 20
  assert np.mean([item.swapped for items in lists for item in items]) < 0.6


@pytest.mark.parametrize(
  ("sizes", "why"),
  [
    ((0, 1, 1, 0), "0 pairs"),
    ((3, 1, 4, 0), "4 pairs for each rater, but there are 3"),
    ((3, 1, 2, 3), "3 vigilance items"),
  ],
)
def test_what_cannot_be_shown_is_told(sizes, why):
  with pytest.raises(UserError, match=why):
    assign(*sizes)
