# SPDX-License-Identifier: Apache-2.0
"""Sprite packs: a folder of looping RGBA sprites and what they are called."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumiere_jax.data import animation
from lumiere_jax.data.objects import SELECTIONS
from lumiere_jax.errors import UserError, nearest

FPS = 16
INDEX = "sprites.json"
# Whom to name, where a pack is not of the art that the package names itself.
ATTRIBUTION = "ATTRIBUTION.md"


@dataclass(frozen=True, kw_only=True)
class SpriteInfo:
  """What is known of one sprite.

  Attributes:
    code: code points in hexadecimal, joined by "-"; also the file's name.
    label: the emoji's name.
    names: what captions call it, the label's short form first.
    keywords: words that go with it.
    group: kind of object, as "animals-nature".
    frames: frames of one loop at 16 fps.
    licence: of the art.
    source: package the art came from.
  """

  code: str
  label: str
  names: tuple[str, ...]
  keywords: tuple[str, ...]
  group: str
  frames: int
  licence: str
  source: str


@dataclass(frozen=True, kw_only=True)
class Sprite:
  """One sprite: what it is, and one loop of it at 16 fps."""

  info: SpriteInfo
  frames: animation.Loop


def read_index(folder: str | Path) -> tuple[SpriteInfo, ...]:
  """The sprites of a pack, in their order.

  Raises:
    UserError: the folder holds no pack.
  """
  path = Path(folder) / INDEX
  if not path.is_file():
    raise UserError(
      f"no sprite pack at {str(folder)!r}; make one with python -m "
      "lumiere_jax.data.sprites --npm=FOLDER_OF_TARBALLS --out=PACK"
    )
  fields = json.loads(path.read_text(encoding="utf-8"))["sprites"]
  return tuple(
    SpriteInfo(
      **{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    )
    for entry in fields
  )


def write_index(folder: str | Path, infos: Sequence[SpriteInfo]) -> None:
  """Writes the list of a pack's sprites."""
  entries = [dataclasses.asdict(info) for info in infos]
  text = json.dumps({"fps": FPS, "sprites": entries}, indent=1)
  (Path(folder) / INDEX).write_text(text + "\n", encoding="utf-8")


def read_sprite(folder: str | Path, info: SpriteInfo) -> Sprite:
  """Decodes one sprite of a pack, with straight alpha."""
  frames, durations = animation.read_animation(
    Path(folder) / f"{info.code}.webp"
  )
  frames = animation.resample(frames, durations, info.frames)
  return Sprite(info=info, frames=np.ascontiguousarray(frames))


def write_sprite(
  folder: str | Path, sprite: Sprite, quality: int | None = None
) -> None:
  """Writes one sprite's file; the index is written once, by `write_index`.

  Args:
    folder: of the pack.
    sprite: with straight alpha.
    quality: 0 to 100 of lossy colors; None is lossless.
  """
  path = Path(folder) / f"{sprite.info.code}.webp"
  animation.write_webp(path, sprite.frames, FPS, quality)


def select(
  infos: Sequence[SpriteInfo], selection: str
) -> tuple[SpriteInfo, ...]:
  """The sprites of one of `SELECTIONS`, in its order; "all": the pack's.

  Raises:
    UserError: no such selection, or the pack lacks some of it.
  """
  if selection not in SELECTIONS:
    raise UserError(
      f"unknown selection {selection!r}{nearest(selection, SELECTIONS)}"
    )
  by_code = {info.code: info for info in infos}
  codes = SELECTIONS[selection] or tuple(by_code)
  missing = [code for code in codes if code not in by_code]
  if missing:
    raise UserError(
      f"the sprite pack lacks {', '.join(missing)} of {selection!r}"
    )
  return tuple(by_code[code] for code in codes)


def plain_code(code: str) -> str:
  """A file's or table's code points without the presentation selector."""
  parts = code.lower().split("-")
  return "-".join(part for part in parts if part != "fe0f")


def newest(folder: Path, pattern: str) -> Path:
  """The newest package of a pattern. Raises UserError if there is none."""
  found = sorted(folder.glob(pattern))
  if not found:
    raise UserError(f"no {pattern} in {str(folder)!r}; fetch it with npm pack")
  return found[-1]
