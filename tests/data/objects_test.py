# SPDX-License-Identifier: Apache-2.0
import itertools
import re

import pytest

from lumiere_jax import objects as list_objects
from lumiere_jax.data import captions, objects, world
from lumiere_jax.data.emoji import DEMO

ALL = objects.OBJECTS | objects.RESERVED
NAMED = [(code, name) for code, names in ALL.items() for name in names]
CODES = {name: code for code, name in NAMED}
SIZES = {"tiny", "small", "little", "big", "large", "huge", "giant"}
SPEEDS = {"slow", "slowly", "fast", "quick", "quickly", "rapidly"}


def _words(text: str) -> list[str]:
  return re.split(r"[ -]", text.lower())


def test_there_are_200_objects_and_20_reserved_ones_apart():
  assert len(objects.OBJECTS) == 200 and len(objects.RESERVED) == 20
  assert not objects.OBJECTS.keys() & objects.RESERVED.keys()


def test_the_demo_comes_first_under_its_main_names():
  first = list(objects.OBJECTS)[: len(DEMO)]
  assert first == list(DEMO)
  for code in first:
    assert objects.OBJECTS[code][0] == DEMO[code][0]


def test_every_object_has_one_to_three_names_of_its_own():
  assert all(1 <= len(names) <= 3 for names in ALL.values())
  spelt = [" ".join(_words(name)) for _, name in NAMED]
  assert len(spelt) == len(set(spelt))


def test_no_name_says_a_color_a_size_a_speed_or_a_movement():
  movements = {
    _words(phrase)[0]
    for forms in captions.MOVEMENT_WORDS.values()
    for phrase in sum(forms, ())
  }
  forbidden = SIZES | SPEEDS | movements | set(world.BACKGROUNDS)
  for _, name in NAMED:
    assert not forbidden & set(_words(name)), name


@pytest.mark.parametrize("template, form", captions.TEMPLATES)
def test_a_caption_names_its_object_and_no_other(template, form):
  words = [forms[form] for forms in captions.MOVEMENT_WORDS.values()]
  moving = itertools.cycle(sum(words, ()))
  for code, name in NAMED:
    prompt = template.format(
      object=name,
      an_object=captions.article(name),
      color="orange",
      a_color="an orange",
      moving=next(moving),
    )
    expected = (code,) if code in objects.OBJECTS else ()
    assert objects.objects_named(prompt) == expected, prompt
    assert objects.objects_named(prompt.upper()) == expected, prompt


@pytest.mark.parametrize("other", ["car", "fire", "bear", "monkey"])
def test_two_objects_are_found_the_longer_name_first(other):
  for code, names in objects.OBJECTS.items():
    if code == CODES[other]:
      continue
    name = names[-1]
    prompt = f"a {other} and then {captions.article(name)}"
    found = objects.objects_named(prompt)
    assert set(found) == {code, CODES[other]}, prompt
    if len(name) != len(other):
      assert (found[0] == code) == (len(name) > len(other)), prompt


def test_a_prompt_of_one_object_gets_no_note():
  assert objects.prompt_note("a fire truck sliding left") is None
  for prompt, said in (
    ("a spoon spinning", "none of the 200 objects"),
    ("a panda and a ghost", "names 2 objects (ghost, panda)"),
    ("an otter", "none of the 200 objects"),
  ):
    note = objects.prompt_note(prompt)
    assert said in note and repr(prompt) in note and "\n" not in note


def test_objects_are_listed(capsys):
  list_objects.main([])
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 200 and lines[0] == "ghost, spook, spirit"
  list_objects.main(["--reserved"])
  assert len(capsys.readouterr().out.splitlines()) == 20


@pytest.mark.parametrize(
  "prompt, names",
  [
    ("a fire truck", ["fire truck"]),
    ("a fire next to a fire truck", ["fire truck", "fire"]),
    ("two bunnies", ["rabbit"]),
    ("three buses and two horses", ["horse", "bus"]),
    ("cups of coffee", ["cup of coffee"]),
    ("monkeys", ["monkey"]),
    ("a teddy-bear", ["teddy bear"]),
    ("a T Rex", ["dinosaur"]),
    ("a polar\nbear", ["polar bear"]),
    ("a jack-o'-lantern", ["pumpkin"]),
    ("the dog\u2019s day", ["dog"]),
    ("panda!", ["panda"]),
    ("A PANDA BEAR", ["panda"]),
    ("a penguin, a penguin and an emperor penguin", ["penguin"]),
    # Parts of words and of compounds are no names.
    ("a spaceship dashboard", ["rocket"]),
    ("a dashboard", []),
    ("a star-shaped balloon", []),
    ("a carpet and a caterer", []),
    ("", []),
    # What is reserved is known, and is not a part of its name.
    ("a tropical fish", []),
    ("a tropical fish and a fish", ["fish"]),
    ("an otter", []),
  ],
)
def test_prompts_as_users_write_them(prompt, names):
  assert objects.objects_named(prompt) == tuple(CODES[name] for name in names)


def test_articles_fit_the_names():
  spoken_as_vowel = {"hourglass"}
  spoken_as_consonant = {"UFO", "unicorn", "unicorn head", "ewe"}
  for _, name in NAMED:
    vowel = name[0].lower() in "aeiou" or name in spoken_as_vowel
    vowel = vowel and name not in spoken_as_consonant
    assert captions.article(name) == f"{'an' if vowel else 'a'} {name}"


def test_selections_are_the_tables_in_their_order():
  assert objects.SELECTIONS["world"] == tuple(objects.OBJECTS)
  assert objects.SELECTIONS["reserved"] == tuple(objects.RESERVED)
  assert objects.SELECTIONS["demo"] == tuple(DEMO)
