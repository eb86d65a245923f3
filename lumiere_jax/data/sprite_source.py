# SPDX-License-Identifier: Apache-2.0
"""Training examples drawn as they are read, from a pack of decoded sprites.

No two examples are the same: an item is a captioned scene, and each time it is
read, phase, place and exact size are drawn from the random numbers of its
position in the order.

What `data.packed` has written is such a pack, with these files besides:

captions.json  the captions, and the scenes of each split
captions.npz   the captions' tokens, and the text encoder cut down to them
text/          a text store of the empty caption and of sample prompts
"""

import functools
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lumiere_jax.data import pack, render, scenes
from lumiere_jax.data.motion import MOTIONS
from lumiere_jax.data.render import ClipSize
from lumiere_jax.data.source import (
  AnySource,
  Item,
  Text,
  digest,
  read_attribution,
)
from lumiere_jax.data.world import BACKGROUNDS
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import UInt8, VideoU8
from lumiere_jax.text.trimmed import encode_trimmed

FORMAT = 1
CAPTIONS, ENCODED, TEXT = "captions.json", "captions.npz", "text"

# Every frame of every sprite, premultiplied.
Frames = UInt8[np.ndarray, "frames side side 4"]


class Sketch(NamedTuple):
  """A scene that is not drawn yet.

  Attributes:
    loop: the object's loop, premultiplied.
    scene: what to draw.
  """

  loop: Frames
  scene: scenes.Scene

  def draw(
    self, rng: np.random.Generator, clip: ClipSize, frames: Sequence[int]
  ) -> VideoU8:
    """Draws these frames of a clip of the scene, with parameters from `rng`."""
    return render.render_frames(
      self.loop,
      BACKGROUNDS[self.scene.background],
      self.scene.motion,
      render.draw_params(rng, len(self.loop)),
      clip,
      frames,
    )


class SpriteSource:
  """The captioned scenes of a split, as `data.source.Source`.

  Attributes:
    text: what encoded the captions of a pack of `data.packed`; else None.
    infos: the objects.
    scenes: one for each item.
  """

  def __init__(self, cfg: AnySource, split: str | None = None):
    """Reads the pack's index, and decodes its sprites if nobody has yet.

    Args:
      cfg: `data_dir` is the pack, `config` the selection of its objects.
      split: other than the config's.

    Raises:
      UserError: no pack, no such selection or split, or sprites that cannot be
        decoded or written.
    """
    self._folder = Path(cfg.data_dir)
    self._split = cfg.split if split is None else split
    if self._split not in scenes.SPLITS:
      raise UserError(
        f"unknown data split {self._split!r}"
        f"{nearest(self._split, scenes.SPLITS)}"
      )
    self.infos = pack.select(pack.read_index(self._folder), cfg.config)
    self.text = None
    packed = self._folder / CAPTIONS
    if packed.is_file():
      about = _read_captions(packed)
      self.text, self.scenes = about["text"], about[self._split]
      self._rows = {caption: i for i, caption in enumerate(about["captions"])}
      self._encoded = encoded_file(self._folder)
    else:
      self.scenes = scenes.captioned_scenes(
        [info.names for info in self.infos], self._split
      )
    self._ends = np.cumsum([info.frames for info in self.infos])
    self._file = decoded_file(self._folder, self.infos)

  def __len__(self) -> int:
    return len(self.scenes)

  def __getitem__(self, index: int) -> Item:
    captioned = self.scenes[index]
    number = captioned.scene.object
    end = int(self._ends[number])
    loop = _open(str(self._file))[end - self.infos[number].frames : end]
    sketch = Sketch(loop, captioned.scene)
    _, *captions = captioned
    if self.text is None:
      return Item(sketch, *captions)
    features, mask = (_open(str(file)) for file in self._encoded)
    rows = [self._rows[caption] for caption in captions]
    texts = [Text(np.array(features[r]), np.array(mask[r])) for r in rows]
    return Item(sketch, *captions, text=texts[0], image_text=texts[1])

  def name(self, index: int) -> str:
    return f"{self._folder.name}-{self._split}[{index}]"

  def stamp(self, index: int) -> str:
    return self.fingerprint()

  def captions(self) -> list[str]:
    return scenes.captions(self.scenes)

  def labels(self, field: str) -> list[str]:
    """A field of every item's motion."""
    return [getattr(s.scene.motion, field) for s in self.scenes]

  def fingerprint(self) -> str:
    return digest([*self.infos, *self.scenes])

  def attribution(self) -> str:
    return read_attribution(self._folder)


@functools.lru_cache(maxsize=8)
def _open(file: str) -> np.ndarray:
  """The file's array; each process maps it once, and all share its pages."""
  return np.load(file, mmap_mode="r")


def _read_captions(file: Path) -> dict[str, Any]:
  """What encoded the captions, they, and the captioned scenes of each split."""
  motions = {motion.name: motion for motion in MOTIONS}
  try:
    about = json.loads(file.read_text(encoding="utf-8"))
    captions = about["captions"]
    if about["format"] != FORMAT:
      raise UserError(f"{file} has format {about['format']}, not {FORMAT}")
    found = {
      split: [
        scenes.CaptionedScene(
          scenes.Scene(number, background, motions[motion]),
          captions[row],
          captions[still],
        )
        for number, background, motion, row, still in about[split]
      ]
      for split in scenes.SPLITS
    }
    return {"text": about["text"], "captions": captions, **found}
  except (OSError, ValueError, LookupError, TypeError) as error:
    if isinstance(error, UserError):
      raise
    raise UserError(f"cannot read {file}: {error!r}") from error


def encoded_file(folder: Path) -> tuple[Path, Path]:
  """Returns the files of features and masks, written if need be.

  Raises:
    UserError: the captions cannot be encoded, or the files not written.
  """
  names = ("features.npy", "mask.npy")
  files = tuple(folder / name for name in names)
  if all(file.is_file() for file in files):
    return files
  print(f"encoding the captions of {folder} (once)", flush=True)
  encoding = encode_trimmed(folder / ENCODED)
  try:
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
      for file, array in zip(files, encoding, strict=True):
        np.save(Path(scratch) / file.name, array)
        os.replace(Path(scratch) / file.name, file)
  except OSError as error:
    raise UserError(f"cannot write in {folder}: {error}") from error
  return files


def decoded_file(folder: Path, infos: Sequence[pack.SpriteInfo]) -> Path:
  """Returns the file of all frames of these sprites, written if need be.

  Raises:
    UserError: a sprite cannot be read, or the file not written.
  """
  file = folder / f"frames-{digest(infos)}.npy"
  if file.is_file():
    return file
  print(f"decoding {len(infos)} sprites to {file} (once)", flush=True)
  loops = (pack.read_sprite(folder, info).frames for info in infos)
  total = sum(info.frames for info in infos)
  try:
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as scratch:
      part = Path(scratch) / file.name
      start, frames = 0, None
      for loop in map(render.premultiplied, loops):
        if frames is None:
          shape = (total, *loop.shape[1:])
          frames = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        frames[start : start + len(loop)] = loop
        start += len(loop)
      frames.flush()
      os.replace(part, file)
  except OSError as error:
    raise UserError(
      f"cannot decode the sprites of {folder}: {error}"
    ) from error
  return file
