# SPDX-License-Identifier: Apache-2.0
r"""Packs sprites and captions so small that training travels with them.

python -m lumiere_jax.data.packed --sprites=PACK --out=PACKED
python -m lumiere_jax.train --config=configs/demo64_t2i.py --workdir=RUN \
  --config.data.data_dir=PACKED --config.text.store=PACKED/text

The result is a sprite pack itself: smaller sprites, in lossy colors, and the
captions of all splits with the text encoder cut down to their words. Training
from it needs neither grain nor PyAV nor the text encoder's package.
"""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from lumiere_jax import cli
from lumiere_jax.config import TextConfig
from lumiere_jax.data import pack, scenes
from lumiere_jax.data.sprite_source import CAPTIONS, ENCODED, FORMAT, TEXT
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import UInt8
from lumiere_jax.text.encoder import TextEncoder, load_minilm
from lumiere_jax.text.store import write_store
from lumiere_jax.text.trimmed import write_trimmed
from lumiere_jax.weights.bert import load_bert
from lumiere_jax.weights.shards import new_folder

ATTRIBUTION = Path(__file__).parents[1] / "assets" / pack.ATTRIBUTION


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(prog="lumiere_jax.data.packed", description=__doc__)
  add = parser.add_argument
  add("--sprites", required=True, help="sprite pack to read")
  add("--out", required=True, help="folder to write")
  add("--names", default="world", help="selection of its objects")
  add("--size", type=int, default=96, help="pixels a side")
  add("--quality", type=int, default=75, help="of colors, 0 to 100")
  add("--prompt", action="append", default=[], help="of sample clips")
  args = parser.parse_args(argv)
  for name, value, most in (
    ("size", args.size, 256),
    ("quality", args.quality, 100),
  ):
    if not 0 < value <= most:
      raise UserError(f"--{name}={value} must be in 1..{most}")
  infos = pack.select(pack.read_index(args.sprites), args.names)
  cfg = TextConfig(batch_size=64)
  encoder = load_minilm(cfg, load_bert)
  with new_folder(args.out) as out:
    for info in infos:
      sprite = pack.read_sprite(args.sprites, info)
      frames = _resized(sprite.frames, args.size)
      small = dataclasses.replace(sprite, frames=frames)
      pack.write_sprite(out, small, args.quality)
    pack.write_index(out, infos)
    own = Path(args.sprites) / pack.ATTRIBUTION
    shutil.copy(own if own.is_file() else ATTRIBUTION, out)
    write_captions(out, [info.names for info in infos], encoder, cfg)
    (out / TEXT).mkdir()
    write_store(
      out / TEXT, args.prompt, encoder, dataclasses.asdict(cfg), batch_size=64
    )
  size = sum(f.stat().st_size for f in Path(args.out).rglob("*") if f.is_file())
  print(f"{len(infos)} sprites, {size / 2**20:.1f} MiB: {args.out}")


def write_captions(
  out: Path,
  names: Sequence[Sequence[str]],
  encoder: TextEncoder,
  cfg: TextConfig,
) -> None:
  """Writes the scenes of all splits, and their captions' tokens."""
  splits = {s: scenes.captioned_scenes(names, s) for s in scenes.SPLITS}
  captions = sorted({c for s in splits.values() for c in scenes.captions(s)})
  rows = {caption: row for row, caption in enumerate(captions)}
  listed = {
    split: [
      [s.object, s.background, s.motion.name, rows[caption], rows[still]]
      for s, caption, still in found
    ]
    for split, found in splits.items()
  }
  text = {n: getattr(cfg, n) for n in ("encoder", "lower_case", "max_tokens")}
  text["width"] = int(encoder.width)
  about = {"format": FORMAT, "text": text, "captions": captions, **listed}
  (out / CAPTIONS).write_text(json.dumps(about), encoding="utf-8")
  write_trimmed(out / ENCODED, encoder.params, encoder.tokenizer(captions))


def _resized(
  frames: UInt8[np.ndarray, "t h w 4"], size_px: int
) -> UInt8[np.ndarray, "t size size 4"]:
  """Frames of another size, by way of premultiplied colors."""
  size = (size_px, size_px)
  images = (
    Image.fromarray(frame)
    .convert("RGBa")
    .resize(size, Image.Resampling.LANCZOS)
    for frame in frames
  )
  return np.stack([np.asarray(image.convert("RGBA")) for image in images])


if __name__ == "__main__":
  cli.run(main)
