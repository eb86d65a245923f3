# SPDX-License-Identifier: Apache-2.0
"""Says in varied words what a clip shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Words for each movement as (participles, finite verbs).
MOVEMENT_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
  "stays": (
    ("staying in place", "standing still", "resting"),
    ("stays in place", "stands still", "rests"),
  ),
  "slides left": (
    ("sliding left", "sliding to the left", "moving leftwards"),
    ("slides left", "moves to the left", "travels from right to left"),
  ),
  "slides right": (
    ("sliding right", "sliding to the right", "moving rightwards"),
    ("slides right", "moves to the right", "travels from left to right"),
  ),
  "slides up": (
    ("sliding up", "moving upwards", "rising"),
    ("slides up", "moves upwards", "rises to the top"),
  ),
  "slides down": (
    ("sliding down", "moving downwards", "sinking"),
    ("slides down", "moves downwards", "sinks to the bottom"),
  ),
  "grows": (
    ("growing", "getting bigger", "growing larger"),
    ("grows", "gets bigger", "becomes larger"),
  ),
  "shrinks": (
    ("shrinking", "getting smaller", "shrinking away"),
    ("shrinks", "gets smaller", "becomes tiny"),
  ),
  "spins": (
    ("spinning", "rotating", "turning around in circles"),
    ("spins", "rotates", "turns around in circles"),
  ),
  "bounces": (
    ("bouncing", "jumping", "jumping up and down"),
    ("bounces", "jumps", "hops up and down"),
  ),
}

# Each with the word form its movement takes: 0 participle, 1 finite verb.
# Without the movement every template is still a caption, of a still.
TEMPLATES: tuple[tuple[str, int], ...] = (
  ("{an_object} {moving} on {a_color} background", 0),
  ("{an_object} {moving} in front of {a_color} background", 0),
  ("on {a_color} background {an_object} {moving}", 1),
  ("{color} background, {object} {moving}", 0),
  ("{object} {moving}, {color} background", 0),
)


@dataclass(frozen=True)
class Caption:
  """The same words with and without the movement."""

  motion: str
  image: str


def article(noun: str) -> str:
  """The noun behind "a" or "an", by its first letter's sound.

  Spelt with a vowel and spoken with a consonant: UFO, unicorn, ewe; the other
  way round: hourglass.
  """
  consonant = noun.lower().startswith(("ufo", "uni", "one", "eu", "ewe"))
  vowel = noun.lower().startswith(("a", "e", "i", "o", "u", "hour"))
  vowel = vowel and not consonant
  return f"{'an' if vowel else 'a'} {noun}"


def draw_caption(
  names: Sequence[str],
  background: str,
  movement: str,
  rng: np.random.Generator,
) -> Caption:
  """Draws a name, a template and a word for the movement."""
  name = draw_name(names, rng)
  template, form = TEMPLATES[int(rng.integers(len(TEMPLATES)))]
  words = MOVEMENT_WORDS[movement][form]
  moving = words[int(rng.integers(len(words)))]
  return Caption(
    motion=fill(template, name, background, moving),
    image=fill(template, name, background, ""),
  )


def draw_name(names: Sequence[str], rng: np.random.Generator) -> str:
  """Draws a name; the first one, which users write most, half of the time."""
  rest = len(names) - 1
  pick = int(rng.integers(2 * rest)) if rest else 0
  return names[1 + pick] if rest and pick < rest else names[0]


def plain_caption(name: str, background: str, movement: str) -> str:
  """What `draw_caption` draws first of everything."""
  moving = MOVEMENT_WORDS[movement][0][0]
  return fill(TEMPLATES[0][0], name, background, moving)


def fill(template: str, name: str, background: str, moving: str) -> str:
  """A caption: the template with its words; `moving` is "" for a still."""
  text = template.format(
    object=name,
    an_object=article(name),
    color=background,
    a_color=article(background),
    moving=moving,
  )
  return " ".join(text.split()).replace(" ,", ",")
