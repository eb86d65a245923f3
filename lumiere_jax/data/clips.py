# SPDX-License-Identifier: Apache-2.0
"""Makes the labelled clips of emoji_motion from a sprite pack."""

import functools
import itertools
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from lumiere_jax.data import captions, pack, render, scenes, world
from lumiere_jax.data.captions import Caption
from lumiere_jax.data.motion import Motion

Example = dict[str, Any]


class Request(NamedTuple):
  """A clip to make.

  Attributes:
    key: of the clip in its split; with the seed it fixes what is drawn.
    background: a name in world.BACKGROUNDS.
    motion: how the object moves.
    caption: None draws one.
  """

  key: str
  background: str
  motion: Motion
  caption: Caption | None = None


@dataclass(frozen=True, kw_only=True)
class ClipSet:
  """Combinations of emoji_motion, and how clips of them are drawn.

  Attributes:
    selection: sprites to use, one of `objects.SELECTIONS`.
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

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits."""
    return world.SPLITS

  def requests(
    self, infos: Sequence[pack.SpriteInfo], split: str
  ) -> list[list[Request]]:
    """The clips of each object, of `infos`, in a split."""
    train = split == "train"
    copies, every = (self.train_clips, self.train_every) if train else (1, 1)
    combinations = world.combinations(len(infos), split)
    made: list[list[Request]] = [[] for _ in infos]
    for emoji, background, movement in itertools.islice(
      combinations, None, None, every
    ):
      for copy in range(copies):
        key = f"{infos[emoji].code}/{background}/{movement}/{copy}"
        made[emoji].append(Request(key, background, Motion(movement)))
    return made


@dataclass(frozen=True, kw_only=True)
class SceneSet:
  """Captioned scenes of the larger world: fixed clips to evaluate by.

  Attributes:
    per_object: the most clips of each object in each split.
    selection: as of `ClipSet`, and so are the others.
    size_px: height and width of a frame.
    num_frames: frames of a clip, at 16 fps.
    seed: of phase, place and size.
  """

  per_object: Mapping[str, int]
  selection: str
  size_px: int
  num_frames: int = 80
  seed: int = 0

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits."""
    return tuple(self.per_object)

  def requests(
    self, infos: Sequence[pack.SpriteInfo], split: str
  ) -> list[list[Request]]:
    """The clips of each object, of `infos`, in a split."""
    made: list[list[Request]] = [[] for _ in infos]
    captioned = scenes.captioned_scenes([info.names for info in infos], split)
    for number, (scene, caption, image_caption) in enumerate(captioned):
      if len(made[scene.object]) < self.per_object[split]:
        key = f"{split}/{number}"
        words = Caption(caption, image_caption)
        made[scene.object].append(
          Request(key, scene.background, scene.motion, words)
        )
    return made


AnySet = ClipSet | SceneSet


def make_clips(
  clip_set: AnySet,
  folder: str | Path,
  split: str,
  num_workers: int,
) -> Iterator[tuple[str, Example]]:
  """Yields (key, example) of every clip of a split.

  What a clip shows depends on the seed and its key only, so any number of
  worker processes makes the same clips in the same order.
  """
  infos = pack.select(pack.read_index(folder), clip_set.selection)
  work = zip(infos, clip_set.requests(infos, split), strict=True)
  make = functools.partial(_make_emoji, clip_set, str(folder))
  if not num_workers:
    for item in work:
      yield from make(item)
    return
  with multiprocessing.get_context("spawn").Pool(num_workers) as pool:
    for made in pool.imap(make, work):
      yield from made


def _make_emoji(
  clip_set: AnySet,
  folder: str,
  item: tuple[pack.SpriteInfo, Sequence[Request]],
) -> list[tuple[str, Example]]:
  """Every clip of one object."""
  info, requests = item
  sprite = pack.read_sprite(folder, info)
  sprite = replace(sprite, frames=render.premultiplied(sprite.frames))
  return [(r.key, _make_clip(clip_set, sprite, r)) for r in requests]


def _make_clip(
  clip_set: AnySet, sprite: pack.Sprite, request: Request
) -> Example:
  rng = world.generator(clip_set.seed, request.key)
  params = render.draw_params(rng, len(sprite.frames))
  background, motion = request.background, request.motion
  caption = request.caption or captions.draw_caption(
    sprite.info.names, background, motion.movement, rng
  )
  return {
    "video": render.render_clip(
      sprite.frames,
      world.BACKGROUNDS[background],
      motion,
      params,
      clip_set.num_frames,
      clip_set.size_px,
    ),
    "caption": caption.motion,
    "image_caption": caption.image,
    "emoji": sprite.info.label,
    "background": background,
    "movement": motion.name,
    "phase": params.phase,
  }
