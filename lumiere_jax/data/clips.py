# SPDX-License-Identifier: Apache-2.0
"""Makes the labelled clips of emoji_motion from a sprite pack."""

import functools
import itertools
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lumiere_jax.data import captions, pack, render, world
from lumiere_jax.data.motion import Motion

Example = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ClipSet:
  """Which clips there are, and how they are drawn.

  Attributes:
    selection: sprites to use, one of objects.SELECTIONS.
    size_px: height and width of a frame.
    num_frames: frames of a clip, at 16 fps.
    train_clips: clips of each combination in the train split, which differ in
      wording, phase, place and size; held-out combinations have one.
    train_every: only every n-th combination of the train split is there; 5
      leaves some of each object, background and movement.
    seed: of everything drawn.
  """

  selection: str
  size_px: int
  num_frames: int = 80
  train_clips: int = 2
  train_every: int = 1
  seed: int = 0

  def keys(
    self, num_emoji: int, split: str
  ) -> Iterator[tuple[int, str, str, int]]:
    """Yields (emoji index, background, movement, copy) of every clip."""
    train = split == "train"
    copies, every = (self.train_clips, self.train_every) if train else (1, 1)
    combinations = world.combinations(num_emoji, split)
    for combination in itertools.islice(combinations, None, None, every):
      for copy in range(copies):
        yield *combination, copy


def make_clips(
  clip_set: ClipSet,
  folder: str | Path,
  split: str,
  num_workers: int,
) -> Iterator[tuple[str, Example]]:
  """Yields (key, example) of every clip of a split.

  What a clip shows depends on the seed and its key only, so any number of
  worker processes makes the same clips in the same order.
  """
  infos = pack.select(pack.read_index(folder), clip_set.selection)
  make = functools.partial(_make_emoji, clip_set, str(folder), infos, split)
  emoji = range(len(infos))
  if not num_workers:
    for index in emoji:
      yield from make(index)
    return
  with multiprocessing.get_context("spawn").Pool(num_workers) as pool:
    for made in pool.imap(make, emoji):
      yield from made


def _make_emoji(
  clip_set: ClipSet,
  folder: str,
  infos: Sequence[pack.SpriteInfo],
  split: str,
  index: int,
) -> list[tuple[str, Example]]:
  """Every clip of one emoji."""
  sprite = pack.read_sprite(folder, infos[index])
  sprite = replace(sprite, frames=render.premultiplied(sprite.frames))
  return [
    _make_clip(clip_set, sprite, background, movement, copy)
    for emoji, background, movement, copy in clip_set.keys(len(infos), split)
    if emoji == index
  ]


def _make_clip(
  clip_set: ClipSet,
  sprite: pack.Sprite,
  background: str,
  movement: str,
  copy: int,
) -> tuple[str, Example]:
  key = f"{sprite.info.code}/{background}/{movement}/{copy}"
  rng = world.generator(clip_set.seed, key)
  params = render.draw_params(rng, len(sprite.frames))
  caption = captions.draw_caption(sprite.info.names, background, movement, rng)
  return key, {
    "video": render.render_clip(
      sprite.frames,
      world.BACKGROUNDS[background],
      Motion(movement),
      params,
      clip_set.num_frames,
      clip_set.size_px,
    ),
    "caption": caption.motion,
    "image_caption": caption.image,
    "emoji": sprite.info.label,
    "background": background,
    "movement": movement,
    "phase": params.phase,
  }
