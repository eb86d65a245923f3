# SPDX-License-Identifier: Apache-2.0
from collections import Counter

import pytest

from lumiere_jax.scoring import zero_shot


def test_clips_follow_the_classes_and_sum_to_the_papers_number():
  categories = zero_shot.read_categories()
  assert len(categories) == 101
  assert sum(c.videos for c in categories) == 9_537 + 3_783
  found = Counter(c.name for c in zero_shot.clips_to_make())
  assert found.total() == 10_235 and len(found) == 101
  for category in categories:
    exact = category.videos * 10_235 / 13_320
    assert abs(found[category.name] - exact) < 1
  names = [c.name for c in categories]
  assert names == sorted(names, key=names.index) and len(set(names)) == 101


@pytest.mark.parametrize(
  ("counts", "total", "want"),
  [
    ([1, 1, 1], 4, [2, 1, 1]),
    ([47, 16, 15, 12, 6, 3, 1], 10, [5, 2, 1, 1, 1, 0, 0]),
    ([5, 0], 3, [3, 0]),
  ],
)
def test_largest_remainders(counts, total, want):
  assert zero_shot.share_out(counts, total) == want


def test_every_class_has_its_own_prompt():
  prompts = [c.prompt for c in zero_shot.read_categories()]
  assert len(set(prompts)) == 101
  assert all(10 < len(p) < 80 and p == p.strip() for p in prompts)
