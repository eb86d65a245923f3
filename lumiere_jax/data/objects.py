# SPDX-License-Identifier: Apache-2.0
"""The objects of the large world, and which of them a prompt names.

A name may hold another one as a whole word ("fire truck" holds "fire"). The
longest name decides: what it covers of a prompt is not read a second time.
"""

import functools
import re

from lumiere_jax.data.emoji import DEMO

# Code points and the names captions use, the one users write first in front.
# Checked by eye at 64 pixels: distinct in shape and color. Over the pixels
# that a loop ever covers, its mean deviation from its mean frame is at least
# 2.4 of 255 on gray. The first 32 are those of `emoji.DEMO`.
OBJECTS: dict[str, tuple[str, ...]] = {
  "1f47b": ("ghost", "spook", "spirit"),
  "1f47d": ("alien", "extraterrestrial", "space alien"),
  "2764": ("heart", "love heart"),
  "1f383": ("pumpkin", "jack-o-lantern", "halloween pumpkin"),
  "1f427": ("penguin", "emperor penguin"),
  "1f40b": ("whale", "sperm whale"),
  "1f42c": ("dolphin", "porpoise", "bottlenose dolphin"),
  "1f42f": ("tiger", "tiger face", "Bengal tiger"),
  "1f419": ("octopus", "cute octopus", "kraken"),
  "1f438": ("frog", "frog face", "toad"),
  "1f680": ("rocket", "space rocket", "spaceship"),
  "1f980": ("crab", "cute crab"),
  "1f98b": ("butterfly", "pretty butterfly", "monarch butterfly"),
  "1f422": ("turtle", "tortoise", "sea turtle"),
  "1f9a9": ("flamingo",),
  "1f984": ("unicorn", "unicorn head"),
  "1f989": ("owl", "wise owl", "night owl"),
  "1f41d": ("bee", "honeybee", "bumblebee"),
  "1f40c": ("snail", "garden snail"),
  "1f99c": ("parrot", "macaw", "colorful parrot"),
  "1f43c": ("panda", "panda face", "panda bear"),
  "2602": ("umbrella", "open umbrella", "parasol"),
  "1f6f8": ("flying saucer", "UFO"),
  "1f525": ("fire", "flame", "burning flame"),
  "2b50": ("star", "shiny star", "golden star"),
  "2603": ("snowman", "snow man", "snowman with a scarf"),
  "2708": ("airplane", "plane", "jet"),
  "1f41e": ("ladybug", "ladybird"),
  "1f31e": ("sun", "smiling sun", "sun with a face"),
  "1f308": ("rainbow", "colorful rainbow", "arc of colors"),
  "1f996": ("dinosaur", "T-Rex", "tyrannosaurus"),
  "1f681": ("helicopter", "chopper", "copter"),
  # Animals and plants.
  "1f42d": ("mouse", "mouse face"),
  "1f42e": ("cow", "cow face"),
  "1f406": ("leopard", "cheetah"),
  "1f430": ("rabbit", "bunny", "hare"),
  "1f408": ("cat", "kitten", "kitty"),
  "1f409": ("dragon", "Chinese dragon"),
  "1f40a": ("crocodile", "alligator"),
  "1f40d": ("snake", "serpent"),
  "1f40e": ("horse", "stallion", "pony"),
  "1f411": ("sheep", "lamb", "ewe"),
  "1f412": ("monkey", "chimpanzee"),
  "1f413": ("rooster", "cockerel"),
  "1f414": ("chicken", "hen"),
  "1f436": ("dog", "puppy", "dog face"),
  "1f437": ("pig", "piglet", "pig face"),
  "1f418": ("elephant",),
  "1f41a": ("seashell", "shell", "conch"),
  "1f41b": ("caterpillar", "inchworm"),
  "1f41c": ("ant",),
  "1f41f": ("fish",),
  "1f421": ("pufferfish", "blowfish"),
  "1f424": ("chick", "baby chick"),
  "1f426": ("bird", "songbird", "cardinal"),
  "1f428": ("koala", "koala bear"),
  "1f42a": ("camel", "dromedary"),
  "1f439": ("hamster", "gerbil"),
  "1f43a": ("wolf", "wolf face"),
  "1f43b": ("bear", "grizzly bear", "bear face"),
  "1f43b-200d-2744": ("polar bear", "arctic bear"),
  "1f43f": ("squirrel", "chipmunk"),
  "1f54a": ("dove", "pigeon"),
  "1f577": ("spider", "tarantula"),
  "1f578": ("spider web", "cobweb", "spiderweb"),
  "1f940": ("wilted flower", "flower", "tulip"),
  "1f981": ("lion", "lion face"),
  "1f982": ("scorpion",),
  "1f983": ("turkey",),
  "1f985": ("eagle", "hawk"),
  "1f986": ("duck", "mallard"),
  "1f987": ("bat",),
  "1f988": ("shark",),
  "1f98a": ("fox", "fox face"),
  "1f98c": ("deer", "stag", "reindeer"),
  "1f98e": ("lizard", "gecko", "salamander"),
  "1f98f": ("rhino", "rhinoceros"),
  "1f990": ("shrimp", "prawn"),
  "1f991": ("squid",),
  "1f992": ("giraffe",),
  "1f993": ("zebra",),
  "1f994": ("hedgehog", "porcupine"),
  "1f997": ("grasshopper", "cricket"),
  "1f998": ("kangaroo", "wallaby"),
  "1f999": ("llama", "alpaca"),
  "1f99a": ("peacock",),
  "1f99d": ("raccoon", "raccoon face"),
  "1f99e": ("lobster", "crayfish"),
  "1f9a2": ("swan",),
  "1f9a5": ("sloth",),
  "1f9a7": ("orangutan",),
  "1f9a8": ("skunk",),
  "1f9ab": ("beaver",),
  "1f9ad": ("seal",),
  "1fab0": ("housefly",),
  "1fab1": ("worm", "earthworm"),
  "1fab2": ("beetle", "scarab"),
  # Sky, weather and places.
  "1f30a": ("ocean wave", "sea wave", "tsunami"),
  "1f31c": ("moon", "crescent moon", "half moon"),
  "1f327": ("rain cloud", "cloud", "raincloud"),
  "1f329": ("thundercloud", "storm cloud"),
  "1f32a": ("tornado", "twister", "whirlwind"),
  "1fa90": ("planet", "Saturn", "planet with a ring"),
  "2604": ("comet", "meteor"),
  "26a1": ("lightning bolt", "lightning", "bolt of lightning"),
  "2744": ("snowflake", "ice crystal"),
  "1f3a1": ("Ferris wheel",),
  "1f3a2": ("roller coaster", "rollercoaster"),
  # Vehicles.
  "1f3cd": ("motorcycle", "motorbike"),
  "1f3ce": ("race car", "racing car", "Formula One car"),
  "1f682": ("train", "steam train", "locomotive"),
  "1f68b": ("tram", "streetcar"),
  "1f68c": ("bus", "coach"),
  "1f691": ("ambulance",),
  "1f692": ("fire truck", "fire engine"),
  "1f693": ("police car", "cop car"),
  "1f695": ("taxi", "cab", "taxicab"),
  "1f697": ("car", "automobile"),
  "1f699": ("jeep", "off-roader"),
  "1f69a": ("truck", "delivery truck"),
  "1f69c": ("tractor", "farm tractor"),
  "1f6a0": ("cable car", "gondola"),
  "1f6a2": ("ship", "steamship"),
  "1f6a4": ("speedboat", "motorboat"),
  "1f6f6": ("canoe", "kayak"),
  "26f5": ("sailboat", "yacht"),
  "1f6fc": ("roller skate",),
  "1fa82": ("parachute", "parachutist", "skydiver"),
  # Things, food and drink.
  "1f570": ("clock", "mantel clock"),
  "231a": ("wristwatch", "watch"),
  "231b": ("hourglass", "sandglass"),
  "1f9ed": ("compass",),
  "1f4ba": ("chair", "seat", "armchair"),
  "1f378": ("cocktail", "martini"),
  "1f379": ("tropical drink", "fruit punch"),
  "1f37a": ("beer", "mug of beer", "beer mug"),
  "1f37e": ("champagne bottle", "bottle of champagne", "champagne"),
  "1f382": ("cake", "birthday cake", "cake with candles"),
  "2615": ("cup of coffee", "coffee", "coffee cup"),
  "1f384": ("Christmas tree", "decorated fir tree"),
  "1f389": ("party popper", "confetti"),
  "1f52e": ("crystal ball", "magic ball"),
  "1f9f8": ("teddy bear", "teddy", "stuffed bear"),
  "1f3b6": ("music note", "musical note"),
  "23f1": ("stopwatch",),
  "1f4de": ("telephone", "phone", "telephone receiver"),
  "1f4f8": ("camera", "photo camera"),
  "1f5d3": ("calendar",),
  "1f3c1": ("checkered flag", "racing flag", "chequered flag"),
  "1f3f4-200d-2620": ("pirate flag", "Jolly Roger"),
  "1f6a9": ("flag", "triangular flag", "pennant"),
  "1f48c": ("love letter", "letter", "envelope"),
  "1f4a9": ("poop", "pile of poop", "poo"),
  "1f916": ("robot", "robot head"),
  "1f480": ("skull",),
  "1f9b4": ("bone", "dog bone"),
  "1f9b7": ("tooth", "molar"),
  "1f441": ("eye", "eyeball"),
  "1f444": ("mouth", "mouth with lips"),
  "1f44d": ("thumbs up", "thumb"),
  # Faces.
  "1f479": ("ogre", "monster"),
  "1f47e": ("space invader",),
  "1f47f": ("devil", "demon", "imp"),
  "1f642": ("smiley face", "smiley", "happy face"),
  "1f60e": ("face with sunglasses", "cool face"),
  "1f60d": ("lovestruck face", "face with heart eyes"),
  "1f621": ("angry face", "furious face"),
  "1f976": ("freezing face", "cold face"),
  "1f92f": ("exploding head",),
  "1f921": ("clown", "clown face"),
  "1f920": ("cowboy", "cowboy face"),
  "1f922": ("sick face", "nauseated face"),
  "1f62d": ("crying face", "sobbing face"),
  "1f637": ("face with a mask", "masked face"),
  # People.
  "1f385": ("Santa Claus", "Santa", "Father Christmas"),
  "1f3c2": ("snowboarder",),
  "1f3c4": ("surfer",),
  "1f3ca": ("swimmer",),
  "1f3cb": ("weightlifter", "weight lifter"),
  "1f46e": ("police officer", "policeman"),
  "1f470": ("bride", "bride with a veil"),
  "1f476": ("baby", "infant"),
  "1f478": ("princess", "queen"),
  "1f483": ("dancer", "flamenco dancer"),
  "1f575": ("detective", "sleuth"),
  "1f6b4": ("cyclist", "bicycle", "bike"),
  "1f939": ("juggler",),
  "1f977": ("ninja",),
  "1f9b8": ("superhero",),
  "1f9d9-200d-2642": ("wizard", "sorcerer", "mage"),
  "1f9da": ("fairy", "pixie"),
  "1f9db": ("vampire", "Dracula"),
  "1f9dc-200d-2640": ("mermaid",),
  "1f9de": ("genie", "djinn"),
  "1f9df": ("zombie",),
  "26f7": ("skier",),
  "26f9": ("basketball player",),
  "1f9d1-200d-1f680": ("astronaut", "spaceman"),
  "1f9d1-200d-1f373": ("chef", "cook"),
  "1f9d1-200d-1f692": ("firefighter", "fireman"),
}

# Never trained on: kept for what is learned later.
RESERVED: dict[str, tuple[str, ...]] = {
  "1f9a6": ("otter", "sea otter"),
  "1f9a4": ("dodo",),
  "1f9ac": ("bison", "buffalo"),
  "1f420": ("tropical fish", "angelfish"),
  "1f99f": ("mosquito", "gnat"),
  "1f9a0": ("germ", "microbe", "bacterium"),
  "1f6fa": ("rickshaw", "tuk-tuk", "auto rickshaw"),
  "1f69b": ("semi-truck", "lorry", "eighteen-wheeler"),
  "1f69d": ("bullet train", "monorail"),
  "26f4": ("ferry", "ferryboat"),
  "1f488": ("barber pole",),
  "1f4a3": ("bomb",),
  "1f943": ("glass of whiskey", "whiskey", "whisky"),
  "1f47a": ("goblin",),
  "1f973": ("party face", "partying face"),
  "1f482": ("royal guard", "guard"),
  "1f477": ("construction worker", "builder"),
  "1f93a": ("fencer",),
  "1f9d1-200d-1f33e": ("farmer",),
  "1f9d1-200d-1f3a8": ("painter", "artist"),
}

# What each selection takes of a pack, in its order; "all" takes all it holds.
SELECTIONS: dict[str, tuple[str, ...]] = {
  "demo": tuple(DEMO),
  "world": tuple(OBJECTS),
  "reserved": tuple(RESERVED),
  "all": (),
}


def objects_named(prompt: str) -> tuple[str, ...]:
  """The codes of the `OBJECTS` that a prompt names, longest name first.

  Names of one length come in the order of the tables. Case does not
  matter, nor does a plural "s" or a hyphen for a space. A part of a compound
  ("star-shaped") is no name. Names of `RESERVED` cover their words too, but
  their codes are left out: a tropical fish is not the fish.
  """
  text = re.sub("['\u2019]", "", prompt)
  found = {}  # A dictionary keeps the order.
  for code, pattern in _patterns():
    text, count = pattern.subn("|", text)
    if count and code in OBJECTS:
      found[code] = True
  return tuple(found)


def is_world(selection: str) -> bool:
  """Whether data of this `data.config` show the objects of `OBJECTS`."""
  return selection.startswith("world")


def prompt_note(prompt: str) -> str | None:
  """What to say about a prompt that does not name exactly one object."""
  named = [OBJECTS[code][0] for code in objects_named(prompt)]
  if len(named) == 1:
    return None
  if named:
    return (
      f"{prompt!r} names {len(named)} objects ({', '.join(named)}); clips show "
      "one"
    )
  return (
    f"{prompt!r} names none of the {len(OBJECTS)} objects that the model knows;"
    " python -m lumiere_jax.objects lists them"
  )


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
  """(code, pattern) of every name, the longest first."""
  named = [
    (name, code)
    for code, names in (OBJECTS | RESERVED).items()
    for name in names
  ]
  named.sort(key=lambda pair: -len(pair[0]))
  return tuple((code, _pattern(name)) for name, code in named)


def _pattern(name: str) -> re.Pattern[str]:
  """What a name looks like in a text; each word may have a plural ending."""
  words = [
    re.escape(word[:-1]) + "(?:y|ys|ies)"
    if word.endswith("y")
    else re.escape(word) + "(?:e?s)?"
    for word in re.split("[ -]", name)
  ]
  body = r"(?:\s+|-)".join(words)
  return re.compile(rf"(?<![\w-]){body}(?![\w-])", re.IGNORECASE)
