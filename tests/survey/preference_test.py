# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.survey.preference import (
  Vote,
  power_table,
  preference,
  votes_needed,
  wilson,
)


def draw(rng, raters, prompts, true=0.6, by_rater=0.0, by_prompt=0.0):
  """A vote of every rater on every prompt, whose tastes are their own."""
  r = rng.standard_normal(raters) * by_rater
  p = rng.standard_normal(prompts) * by_prompt
  chance = np.clip(true + r[:, None] + p, 0.02, 0.98)
  return [
    Vote(str(i), str(j), "quality", bool(rng.random() < chance[i, j]))
    for i in range(raters)
    for j in range(prompts)
  ]


def test_shares_and_counts():
  votes = [Vote("a", "x", "q", True)] * 3 + [Vote("b", "y", "q", False)]
  found = preference(votes, rounds=100)
  assert found.share == 0.75
  assert (found.votes, found.raters, found.prompts) == (4, 2, 2)
  assert 0 <= found.low <= 0.75 <= found.high <= 1
  assert not found.decided
  with pytest.raises(UserError, match="no votes"):
    preference([])


def test_one_rater_or_one_prompt_decides_nothing():
  for raters, prompts in ((1, 40), (40, 1)):
    votes = [
      Vote(str(i % raters), str(i % prompts), "q", first=True)
      for i in range(40)
    ]
    found = preference(votes, rounds=20)
    assert (found.low, found.high, found.decided) == (0, 1, False)


@pytest.mark.parametrize("tastes", [(0.0, 0.0), (0.2, 0.1)])
def test_intervals_hold_the_truth_whether_votes_depend_on_each_other(tastes):
  rng = np.random.default_rng(0)
  held = wide = 0
  for i in range(40):
    votes = draw(rng, 12, 12, by_rater=tastes[0], by_prompt=tastes[1])
    found = preference(votes, rounds=200, seed=i)
    held += found.low <= 0.6 <= found.high
    low, high = wilson(sum(v.first for v in votes), len(votes))
    wide += found.high - found.low > 1.3 * (high - low)
  assert held >= 34
  assert (wide > 30) == (tastes != (0.0, 0.0))


def test_dependent_votes_have_a_design_effect():
  rng = np.random.default_rng(1)
  alone = preference(draw(rng, 15, 15), rounds=300)
  dependent = preference(draw(rng, 15, 15, by_rater=0.3), rounds=300)
  assert alone.design_effect < 2 < dependent.design_effect


def test_wilson_is_its_formula():
  """Of Brown, Cai and DasGupta (2001): 10 of 50."""
  low, high = wilson(10, 50)
  assert low == pytest.approx(0.1124, abs=1e-4)
  assert high == pytest.approx(0.3304, abs=1e-4)
  assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-12)


def test_as_many_votes_as_the_table_says_find_it():
  """Power 0.8 of the two-sided test, by simulation."""
  rng = np.random.default_rng(2)
  for share, votes in power_table((0.6, 0.7)).items():
    hits = rng.binomial(votes, share, 4000)
    z = np.abs(hits / votes - 0.5) / np.sqrt(0.25 / votes)
    assert np.mean(z > 1.96) == pytest.approx(0.8, abs=0.04)
  assert votes_needed(0.6, design_effect=2.0) == pytest.approx(
    2 * votes_needed(0.6), abs=1
  )
  assert votes_needed(0.4) == votes_needed(0.6)
  with pytest.raises(UserError, match=r"0\.5"):
    votes_needed(0.5)
