# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from lumiere_jax.data import world


@pytest.mark.parametrize("num_emoji", [3, 4, 32])
def test_splits_are_disjoint_and_train_covers_every_pair(num_emoji):
  train = set(world.combinations(num_emoji, "train"))
  held_out = set(world.combinations(num_emoji, "held_out"))
  everything = set(
    itertools.product(range(num_emoji), world.BACKGROUNDS, world.MOVEMENTS)
  )
  assert train | held_out == everything and not train & held_out
  assert 0.08 < len(held_out) / len(everything) < 0.12
  for axes in itertools.combinations(range(3), 2):
    pairs = {tuple(c[a] for a in axes) for c in everything}
    assert {tuple(c[a] for a in axes) for c in train} == pairs


def test_held_out_shows_every_emoji_background_and_movement():
  held_out = list(world.combinations(32, "held_out"))
  assert {c[0] for c in held_out} == set(range(32))
  assert {c[1] for c in held_out} == set(world.BACKGROUNDS)
  assert {c[2] for c in held_out} == set(world.MOVEMENTS)


def test_backgrounds_are_far_apart():
  colors = np.array(list(world.BACKGROUNDS.values()), float)
  distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1)
  assert distance[~np.eye(len(colors), dtype=bool)].min() > 85


def test_generators_depend_on_seed_and_key_only():
  def draw(seed, key):
    return world.generator(seed, key).integers(1 << 30)

  assert draw(0, "a") == draw(0, "a")
  assert len({draw(0, "a"), draw(0, "b"), draw(1, "a")}) == 3
