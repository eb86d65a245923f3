# SPDX-License-Identifier: Apache-2.0
"""Makes training examples of items, and tries others for those that fail."""

import json
import math
import zlib
from dataclasses import dataclass

import numpy as np

from lumiere_jax.config import DataConfig
from lumiere_jax.data.mixture import Mixture
from lumiere_jax.data.render import ClipSize
from lumiere_jax.data.source import Drawable, Frames, Item, take
from lumiere_jax.media import Unusable, Wish, read_segment, read_still
from lumiere_jax.shapes import UInt8, VideoU8

# So many in a row that cannot be used are no accident.
TRIES = 100
# Characters of what is said of a broken item.
_DETAIL = 200


@dataclass(frozen=True)
class Draw:
  """Turns the number of an item into an example; pickled to worker processes.

  What a position of the order gives depends on its number and random numbers
  alone: in place of an item that cannot be used, another of the same source is
  drawn.

  In stage "image" a clip gives a frame drawn from it. In stage "video" a still
  is a clip that shows it throughout: a batch has one number of frames, and
  the temporal layers, which are all that trains, learn from it that what
  stands still stays as it is. As it also teaches to stand still, how often
  that comes is for the weights of the sources to say; the paper trains its
  temporal layers on clips alone, as do all configs here.
  """

  source: Mixture
  cfg: DataConfig
  stage: str

  def __call__(
    self, index: int, rng: np.random.Generator
  ) -> dict[str, np.ndarray | str]:
    broken = []
    for _ in range(TRIES):
      try:
        example = self._example(index, rng)
        break
      except Unusable as error:
        detail = " ".join(error.detail.split())[:_DETAIL]
        broken.append((self.source.name(index), error.reason, detail))
        part = self.source.range_of(index)
        index = part.start + int(rng.integers(len(part)))
    else:
      example = self._blank()
    return example | {"broken": json.dumps(broken) if broken else ""}

  def _example(
    self, index: int, rng: np.random.Generator
  ) -> dict[str, np.ndarray | str]:
    item = take(self.source, index)
    if isinstance(item.media, Frames):
      pixels, caption = self._stored(item, rng)
    elif isinstance(item.media, Drawable):
      pixels, caption = self._drawn(item, rng)
    else:
      pixels, caption = self._decoded(item, rng), item.caption
    example = {"pixels": pixels, "caption": caption}
    if self.source.text is not None:
      text = item.text if caption == item.caption else item.image_text
      example |= {"text": text.features, "mask": text.mask}
    return example

  def _blank(self) -> dict[str, np.ndarray | str]:
    """Of the shape of an example; who reads it stops the run."""
    frames, *rest = self.cfg.train_size
    shape = (*rest, 3) if self.stage == "image" else (frames, *rest, 3)
    example = {"pixels": np.zeros(shape, np.uint8), "caption": ""}
    if about := self.source.text:
      tokens = about["max_tokens"]
      example["text"] = np.zeros((tokens, about["width"]), np.float16)
      example["mask"] = np.zeros(tokens, np.bool_)
    return example

  def _decoded(self, item: Item, rng: np.random.Generator) -> np.ndarray:
    cfg = self.cfg
    frames, side, _ = cfg.train_size
    room = cfg.size_px - side
    # All of them, always: what one example draws does not depend on its kind.
    start, left, top = rng.random(3)
    box = (*(int(n) for n in rng.integers(room + 1, size=2)), side, side)
    wish = Wish(
      num_frames=frames if self.stage == "video" else 1,
      fps=cfg.fps,
      size=(cfg.size_px, cfg.size_px),
      fit={"center": "crop", "random": "crop"}.get(cfg.crop, cfg.crop),
      centering=(left, top) if cfg.crop == "random" else (0.5, 0.5),
      box=box if room else None,
      start={"begin": 0.0, "middle": 0.5}.get(cfg.start, start),
      min_seconds=cfg.min_seconds,
      max_seek_seconds=cfg.max_seek_seconds,
    )
    if not item.still:
      clip = read_segment(item.media, wish)
      return clip if self.stage == "video" else clip[0]
    still = read_still(item.media, wish)
    if self.stage == "image":
      return still
    return np.repeat(still[None], frames, axis=0)

  def _stored(
    self, item: Item, rng: np.random.Generator
  ) -> tuple[np.ndarray, str]:
    """Of frames: a part of the clip, or of one drawn frame."""
    data, shape = item.media
    if self.stage == "video":
      pixels = pixels_of(data, shape)
      return self._cut(pixels, self.cfg.train_size, rng), item.caption
    index = int(rng.integers(shape[0]))
    caption = self._still_caption(item, rng)
    frame = frame_of(data, shape, index)
    return self._cut(frame, self.cfg.train_size[1:], rng), caption

  def _drawn(
    self, item: Item, rng: np.random.Generator
  ) -> tuple[np.ndarray, str]:
    """A part of a clip, or of one frame of it; nothing else is drawn."""
    cfg = self.cfg
    length, *size = cfg.train_size
    clip = ClipSize(cfg.num_frames, cfg.size_px)
    if self.stage == "video":
      start = int(rng.integers(cfg.num_frames - length + 1))
      pixels = item.media.draw(rng, clip, range(start, start + length))
      return self._cut(pixels, (length, *size), rng), item.caption
    index = int(rng.integers(cfg.num_frames))
    caption = self._still_caption(item, rng)
    frame = item.media.draw(rng, clip, [index])[0]
    return self._cut(frame, tuple(size), rng), caption

  def _still_caption(self, item: Item, rng: np.random.Generator) -> str:
    """The clip's whole caption, or the one without movement."""
    motion = rng.random() < self.cfg.motion_caption_rate
    return item.caption if motion else item.image_caption or item.caption

  def _cut(
    self,
    pixels: np.ndarray,
    size: tuple[int, ...],
    rng: np.random.Generator,
  ) -> np.ndarray:
    """A part of this size, drawn anywhere; draws nothing where it is all."""
    for axis, length in enumerate(size):
      if room := pixels.shape[axis] - length:
        start = int(rng.integers(room + 1))
        pixels = pixels.take(range(start, start + length), axis)
    return pixels


def pixels_of(data: bytes, shape: tuple[int, int, int, int]) -> VideoU8:
  """A stored clip.

  Raises:
    Unusable: it is damaged.
  """
  try:
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)
  except (zlib.error, ValueError) as error:
    raise Unusable("damaged", str(error)) from error


def frame_of(
  data: bytes, shape: tuple[int, int, int, int], index: int
) -> UInt8[np.ndarray, "h w c"]:
  """One frame, without decompressing those behind it.

  Raises:
    Unusable: it is damaged.
  """
  size = math.prod(shape[1:])
  try:
    head = zlib.decompressobj().decompress(data, (index + 1) * size)
    return np.frombuffer(head, np.uint8, size, index * size).reshape(shape[1:])
  except (zlib.error, ValueError) as error:
    raise Unusable("damaged", str(error)) from error
