# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from lumiere_jax.data import captions, world
from lumiere_jax.data.emoji import DEMO, SYNONYMS


def _draw(movement, seed, names=("owl", "night owl"), background="orange"):
  rng = np.random.default_rng(seed)
  return captions.draw_caption(names, background, movement, rng)


@pytest.mark.parametrize("movement", world.MOVEMENTS)
def test_captions_say_object_background_and_movement(movement):
  words = sum(captions.MOVEMENT_WORDS[movement], ())
  drawn = [_draw(movement, seed) for seed in range(200)]
  for caption in drawn:
    assert "owl" in caption.motion and "orange" in caption.motion
    assert any(word in caption.motion for word in words)
    # The still's caption is the same one without the words of movement.
    without = [caption.motion.replace(" " + word, "") for word in words]
    assert caption.image in without and caption.image != caption.motion
  used = {w for w in words if any(w in c.motion for c in drawn)}
  assert used == set(words)


def test_no_word_of_movement_stands_for_two_movements():
  phrases = [
    word
    for forms in captions.MOVEMENT_WORDS.values()
    for word in sum(forms, ())
  ]
  assert len(phrases) == len(set(phrases))


def test_the_first_name_is_half_of_the_draws():
  drawn = [_draw("spins", s, ("ghost", "spook", "spirit")) for s in range(600)]
  share = np.mean(["ghost" in caption.motion for caption in drawn])
  assert 0.43 < share < 0.57
  assert any("spook" in c.motion for c in drawn)
  assert any("spirit" in c.motion for c in drawn)


def test_a_single_name_is_enough():
  assert "ghost" in _draw("spins", 0, ("ghost",)).motion


@pytest.mark.parametrize(
  "noun, text",
  [
    ("dolphin", "a dolphin"),
    ("owl", "an owl"),
    ("UFO", "a UFO"),
    ("unicorn head", "a unicorn head"),
    ("umbrella", "an umbrella"),
    ("orange", "an orange"),
    ("hourglass", "an hourglass"),
    ("house", "a house"),
    ("ewe", "a ewe"),
  ],
)
def test_articles(noun, text):
  assert captions.article(noun) == text


def test_captions_are_clean_sentences():
  for seed in range(100):
    for text in vars(_draw("stays", seed, DEMO["1f6f8"])).values():
      assert text == text.strip() and "  " not in text and " ," not in text
      assert "{" not in text


def test_wording_depends_on_the_generator_only():
  assert _draw("spins", 5) == _draw("spins", 5)
  assert len({_draw("spins", seed) for seed in range(50)}) > 10


def test_every_name_names_one_emoji():
  demo = [name for names in DEMO.values() for name in names]
  others = [label for label in SYNONYMS if label not in demo]
  others += [name for names in SYNONYMS.values() for name in names]
  assert len(DEMO) == 32 and len(demo) == 96
  assert len(demo + others) == len(set(demo + others))
