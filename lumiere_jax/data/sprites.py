# SPDX-License-Identifier: Apache-2.0
"""Makes a sprite pack from the npm packages of animated Fluent Emoji.

npm pack @lobehub/fluent-emoji-anim-{1,2,3,4} emojibase-data@17.0.0
python -m lumiere_jax.data.sprites --npm=. --out=sprites --names=demo
"""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lumiere_jax import cli
from lumiere_jax.data import animation, pack
from lumiere_jax.data.emoji import DEMO, SYNONYMS
from lumiere_jax.data.objects import OBJECTS, RESERVED

ART = "lobehub-fluent-emoji-anim-*.tgz"
NAMES = "emojibase-data-*.tgz"
MIN_FRAMES = 40
PEOPLE = "people-body"
# What --names may ask for: the selections that such a pack holds, and the names
# that were given by hand.
PACKS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
  "demo": (("demo",), DEMO),
  "world": (("world", "reserved"), OBJECTS | RESERVED),
  "all": (("all",), DEMO),
}
_TAKEN = {name for names in DEMO.values() for name in names}


@dataclass(frozen=True, kw_only=True)
class Name:
  """What emojibase says of one emoji."""

  label: str
  keywords: tuple[str, ...]
  group: str


def usable(code: str, name: Name | None) -> bool:
  """Whether an emoji that was not chosen by hand may enter a pack.

  Left out: skin tones, clock faces, and persons built with joiners, which
  differ from each other in ways that 64 pixels do not show; and what is called
  as captions call another one ("tiger", since the tiger face is).
  """
  points = [int(part, 16) for part in code.split("-")]
  toned = any(0x1F3FB <= point <= 0x1F3FF for point in points)
  clock = 0x1F550 <= points[0] <= 0x1F567
  if name is None or toned or clock or name.label in _TAKEN:
    return False
  return not (name.group == PEOPLE and 0x200D in points)


def names_of(name: Name) -> tuple[str, ...]:
  """What captions call such an emoji: its label, and synonyms checked by hand.

  Keywords are not taken as they are: they tell of an emoji's use as much as of
  its looks ("beach", "pride"), and many emoji share them.
  """
  return (name.label, *SYNONYMS.get(name.label, ()))


def read_names(npm: Path) -> dict[str, Name]:
  """The table of emojibase by code."""
  with tarfile.open(pack.newest(npm, NAMES)) as archive:
    table = json.load(archive.extractfile("package/en/data.json"))
    meta = json.load(archive.extractfile("package/meta/groups.json"))
  return {
    pack.plain_code(entry["hexcode"]): Name(
      label=entry["label"].replace("\u2019", "'"),
      keywords=tuple(entry.get("tags", ())),
      group=meta["groups"][str(entry["group"])],
    )
    for entry in table
    if "group" in entry  # single regional letters have none
  }


def read_art(npm: Path) -> Iterator[tuple[str, str, bytes]]:
  """Yields (code, package, WebP bytes) of every file in the art packages."""
  pack.newest(npm, ART)
  for path in sorted(npm.glob(ART)):
    with tarfile.open(path) as archive:
      for member in archive:
        if member.name.endswith(".webp"):
          code = pack.plain_code(Path(member.name).stem)
          package = path.stem.replace("lobehub-", "@lobehub/", 1)
          yield code, package, archive.extractfile(member).read()


def make_pack(npm: Path, out: Path, size_px: int, selection: str) -> int:
  """Writes the pack; returns the number of sprites in it."""
  names = read_names(npm)
  selections, chosen = PACKS[selection]
  out.mkdir(parents=True, exist_ok=True)
  infos = []
  for code, package, data in tqdm(read_art(npm), "art", unit="file"):
    name = names.get(code)
    others = selection == "all" and usable(code, name)
    if name is None or not (code in chosen or others):
      continue
    frames, durations = animation.read_animation(io.BytesIO(data))
    if len(frames) < MIN_FRAMES:
      continue
    frames = animation.resample(
      frames, durations, animation.loop_frames(durations, pack.FPS)
    )
    info = pack.SpriteInfo(
      code=code,
      label=name.label,
      names=chosen.get(code) or names_of(name),
      keywords=name.keywords,
      group=name.group,
      frames=len(frames),
      licence="MIT",
      source=package,
    )
    frames = animation.trim(frames, size_px)
    pack.write_sprite(out, pack.Sprite(info=info, frames=frames))
    infos.append(info)
  infos.sort(key=lambda info: info.code)
  listed = [info for part in selections for info in pack.select(infos, part)]
  pack.write_index(out, listed)
  return len(infos)


def main(argv: Sequence[str]) -> None:
  """Makes the pack that the flags ask for."""
  parser = cli.Parser(prog="lumiere_jax.data.sprites", description=__doc__)
  parser.add_argument("--npm", required=True, help="folder of the tarballs")
  parser.add_argument("--out", required=True, help="folder of the pack")
  parser.add_argument("--size", type=int, default=128, help="pixels a side")
  parser.add_argument("--names", default="demo", choices=PACKS)
  args = parser.parse_args(argv)
  count = make_pack(Path(args.npm), Path(args.out), args.size, args.names)
  print(f"{count} sprites of {args.size} pixels in {args.out}")


if __name__ == "__main__":
  cli.run(main)
