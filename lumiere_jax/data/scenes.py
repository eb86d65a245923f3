# SPDX-License-Identifier: Apache-2.0
"""Scenes of the larger world, and the captions that describe them.

Every caption is drawn once, from a fixed seed: so few (MAX_CAPTIONS) that
their encodings are a file. Training draws phase, place and exact size of each
example as it goes (`sprite_source`).
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lumiere_jax.data.captions import (
  MOVEMENT_WORDS,
  TEMPLATES,
  draw_name,
  fill,
)
from lumiere_jax.data.motion import MOTIONS, Motion
from lumiere_jax.data.world import BACKGROUNDS, HELD_OUT_PERIOD, generator
from lumiere_jax.movements import COMBINED, SLIDES

# Splits: combinations and wordings that training sees, combinations that it
# does not, and wordings that it does not (of combinations that it does).
SPLITS = ("train", "held_out", "wordings")
MAX_CAPTIONS = 30_000
# Captions of each object. With those of stills, all splits of 200 objects stay
# below MAX_CAPTIONS.
PER_OBJECT: Mapping[str, int] = {"train": 75, "held_out": 6, "wordings": 6}
# One in so many pairs of a template and a word for the movement.
_WORDING_PERIOD = 8
# How often a motion is drawn: those of the usual speed and size most often.
_WEIGHTS = {"plain": 2.0, "speed": 1.5, "size": 1.0}
_SEED = 64

SIZE_WORDS: Mapping[str, tuple[str, ...]] = {
  "": ("",),
  "small": ("small", "tiny"),
  "big": ("big", "large"),
}
SPEED_WORDS: Mapping[str, tuple[str, ...]] = {
  "": ("",),
  "slowly": ("slowly",),
  "quickly": ("quickly", "fast"),
  "very fast": ("very fast", "at top speed"),
}
_GROWING = (
  (" while growing", " while getting bigger", " and growing larger"),
  (" while growing", " and gets bigger", " and grows larger"),
)


@dataclass(frozen=True)
class Scene:
  """An object, the color behind it, and how it moves.

  Attributes:
    object: its number in the list of objects.
    background: a name in world.BACKGROUNDS.
    motion: how it moves.
  """

  object: int
  background: str
  motion: Motion


class CaptionedScene(NamedTuple):
  """A scene, a caption of it, and one of its stills."""

  scene: Scene
  caption: str
  image_caption: str


def is_held_out(scene: Scene) -> bool:
  """Whether training never sees this combination: about one in ten."""
  background = list(BACKGROUNDS).index(scene.background)
  mark = 3 * scene.object + 7 * background + MOTIONS.index(scene.motion)
  return mark % HELD_OUT_PERIOD == 0


def captioned_scenes(
  names: Sequence[Sequence[str]], split: str
) -> list[CaptionedScene]:
  """Every captioned scene of a split, in a shuffled order that never changes.

  Args:
    names: of each object, the main one first.
    split: one of SPLITS.
  """
  scenes = [
    scene
    for number, own in enumerate(names)
    for scene in _of_object(number, tuple(own), split)
  ]
  order = generator(_SEED, f"order/{split}").permutation(len(scenes))
  return [scenes[i] for i in order]


def captions(scenes: Sequence[CaptionedScene]) -> list[str]:
  """Every caption of these scenes and of their stills, sorted, each once."""
  return sorted({c for s in scenes for c in (s.caption, s.image_caption)})


def _of_object(
  number: int, names: tuple[str, ...], split: str
) -> Iterator[CaptionedScene]:
  """Draws the captioned scenes of one object."""
  rng = generator(_SEED, f"{split}/{number}")
  for _ in range(PER_OBJECT[split]):
    scene = _draw_scene(number, rng, held_out=split == "held_out")
    wordings = _wordings(scene.motion.movement, held_out=split == "wordings")
    template, word = wordings[int(rng.integers(len(wordings)))]
    yield _describe(scene, draw_name(names, rng), template, word, rng)


def _draw_scene(
  number: int, rng: np.random.Generator, *, held_out: bool
) -> Scene:
  weights = _motion_weights()
  while True:
    scene = Scene(
      number,
      str(rng.choice(list(BACKGROUNDS))),
      MOTIONS[int(rng.choice(len(MOTIONS), p=weights))],
    )
    if is_held_out(scene) == held_out:
      return scene


@functools.cache
def _motion_weights() -> np.ndarray:
  kinds = [
    "speed" if motion.speed else "size" if motion.size else "plain"
    for motion in MOTIONS
  ]
  weights = np.array([_WEIGHTS[kind] for kind in kinds])
  return weights / weights.sum()


@functools.cache
def _wordings(movement: str, *, held_out: bool) -> list[tuple[int, int]]:
  """Pairs of a template and a word for the movement, by number."""
  base = [motion.movement for motion in MOTIONS].index(movement)
  return [
    (template, word)
    for template, word in itertools.product(range(len(TEMPLATES)), range(3))
    if ((3 * template + word + base) % _WORDING_PERIOD == 0) == held_out
  ]


def _describe(
  scene: Scene,
  name: str,
  template: int,
  word: int,
  rng: np.random.Generator,
) -> CaptionedScene:
  motion = scene.motion
  size, speed = (
    words[int(rng.integers(len(words)))]
    for words in (SIZE_WORDS[motion.size], SPEED_WORDS[motion.speed])
  )
  noun = f"{size} {name}".strip()
  text, form = TEMPLATES[template]
  moving = movement_words(motion.movement, form)[word]
  # "slowly spinning" as often as "spinning slowly".
  if speed == "slowly" and rng.random() < 0.5:
    moving = f"{speed} {moving}"
  else:
    moving = f"{moving} {speed}".strip()
  # One template for each name, size and color: there must not be many.
  still_rng = generator(_SEED, f"still/{noun}/{scene.background}")
  still, _ = TEMPLATES[int(still_rng.integers(len(TEMPLATES)))]
  return CaptionedScene(
    scene,
    caption=fill(text, noun, scene.background, moving),
    image_caption=fill(still, noun, scene.background, ""),
  )


def movement_words(movement: str, form: int) -> tuple[str, ...]:
  """Three ways to say a movement: participles (form 0) or verbs (1)."""
  if movement not in COMBINED:
    return MOVEMENT_WORDS[movement][form]
  slide = SLIDES[COMBINED.index(movement)]
  words = MOVEMENT_WORDS[slide][form]
  return tuple(a + b for a, b in zip(words, _GROWING[form], strict=True))
