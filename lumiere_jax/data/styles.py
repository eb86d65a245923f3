# SPDX-License-Identifier: Apache-2.0
"""Makes a sprite pack of the same objects in another drawing style.

npm pack @discordapp/twemoji@16.0.1
python -m lumiere_jax.data.styles --style=twemoji --npm=. --like=sprites \
  --out=sprites_twemoji

Its sprites do not move by themselves: stills to fine-tune a style on (section
4.1 of the paper). Needs the `data` extra, to draw SVG.
"""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lumiere_jax import cli
from lumiere_jax.data import animation, pack
from lumiere_jax.errors import UserError

_LICENCES = {
  "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
  "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
  "MIT": "https://opensource.org/license/mit",
}
# Drawn this many times as large, then trimmed and reduced.
_OVERSAMPLING = 2


@dataclass(frozen=True, kw_only=True)
class Style:
  """Where the drawings of a style lie.

  Attributes:
    tarball: pattern of the package's file.
    licence: of the drawings.
    credit: whom and what to name.
    read: the SVG of every code in the opened package.
  """

  tarball: str
  licence: str
  credit: str
  read: Callable[[tarfile.TarFile], dict[str, str]]


def make_pack(style: str, npm: Path, like: Path, out: Path) -> int:
  """Writes the pack; returns the number of sprites in it.

  Args:
    style: one of STYLES.
    npm: folder of the package's tarball.
    like: pack whose objects are drawn, at its size.
    out: folder of the new pack.

  Raises:
    UserError: no such style, package or pack, or an object is not in it.
  """
  source = STYLES[style]
  infos = pack.read_index(like)
  size = pack.read_sprite(like, infos[0]).frames.shape[1]
  path = pack.newest(npm, source.tarball)
  with tarfile.open(path) as archive:
    drawings = source.read(archive)
  out.mkdir(parents=True, exist_ok=True)
  made = []
  for info in infos:
    if info.code not in drawings:
      raise UserError(f"{path.name} has no drawing of {info.label!r}")
    frames = animation.trim(draw(drawings[info.code], size), size)
    info = replace(info, frames=1, licence=source.licence, source=path.stem)
    pack.write_sprite(out, pack.Sprite(info=info, frames=frames))
    made.append(info)
  pack.write_index(out, made)
  (out / pack.ATTRIBUTION).write_text(
    f"Art: {source.credit}, {source.licence} ({_LICENCES[source.licence]}), "
    f"from the npm package {path.stem}.\n"
    "Changes made: rasterised, trimmed, resized, composited on flat "
    "backgrounds,\nmoved, and captioned.\n"
  )
  return len(made)


def draw(svg: str, size_px: int) -> animation.Loop:
  """One frame of a drawing, straight alpha: (1, n, n, 4)."""
  try:
    import resvg_py
  except ModuleNotFoundError:
    raise UserError(
      "drawing SVG needs resvg-py: pip install 'lumiere_jax[data]'"
    ) from None
  side = size_px * _OVERSAMPLING
  png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
  with Image.open(io.BytesIO(png)) as image:
    return np.asarray(image.convert("RGBA"))[None]


def _from_files(folder: str) -> Callable[[tarfile.TarFile], dict[str, str]]:
  """Reads folder/CODE.svg of a package."""

  def read(archive: tarfile.TarFile) -> dict[str, str]:
    return {
      pack.plain_code(Path(member.name).stem): _text(archive, member)
      for member in archive
      if member.name.startswith(folder) and member.name.endswith(".svg")
    }

  return read


def _from_iconify(archive: tarfile.TarFile) -> dict[str, str]:
  """Reads a package of Iconify: icons.json, and chars.json for the codes."""
  icons = json.loads(_text(archive, "package/icons.json"))
  codes = json.loads(_text(archive, "package/chars.json"))
  sides = {"width": icons["width"], "height": icons["height"]}
  drawings = {}
  for code, name in codes.items():
    if name not in icons["icons"]:
      continue  # An alias.
    icon = sides | icons["icons"][name]
    box = f"0 0 {icon['width']} {icon['height']}"
    drawings[pack.plain_code(code)] = (
      f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">'
      f"{icon['body']}</svg>"
    )
  return drawings


def _text(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> str:
  return archive.extractfile(member).read().decode("utf-8")


STYLES = {
  "twemoji": Style(
    tarball="discordapp-twemoji-*.tgz",
    licence="CC-BY-4.0",
    credit="Twemoji, copyright Twitter, Inc and other contributors",
    read=_from_files("package/dist/svg/"),
  ),
  "noto": Style(
    tarball="iconify-json-noto-[0-9]*.tgz",
    licence="Apache-2.0",
    credit="Noto Emoji, copyright Google LLC",
    read=_from_iconify,
  ),
  "mono": Style(
    tarball="iconify-json-fluent-emoji-high-contrast-*.tgz",
    licence="MIT",
    credit="Fluent Emoji (high contrast), copyright Microsoft Corporation",
    read=_from_iconify,
  ),
}


def main(argv: Sequence[str]) -> None:
  """Makes the pack that the flags ask for."""
  parser = cli.Parser(prog="lumiere_jax.data.styles", description=__doc__)
  parser.add_argument("--style", required=True, choices=STYLES)
  parser.add_argument("--npm", required=True, help="folder of the tarball")
  parser.add_argument("--like", required=True, help="pack of the same objects")
  parser.add_argument("--out", required=True, help="folder of the pack")
  args = parser.parse_args(argv)
  count = make_pack(args.style, Path(args.npm), Path(args.like), Path(args.out))
  print(f"{count} sprites in the style {args.style!r} in {args.out}")


if __name__ == "__main__":
  cli.run(main)
