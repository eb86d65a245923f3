# SPDX-License-Identifier: Apache-2.0
"""Batches for training, and labelled clips for evaluation."""

import dataclasses
import importlib.util
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lumiere_jax.config import DataConfig, SourceConfig
from lumiere_jax.data import built, record, world
from lumiere_jax.data.batches import Batches
from lumiere_jax.data.built import BuiltSource
from lumiere_jax.data.draw import Draw, pixels_of
from lumiere_jax.data.mixture import Mixture, open_sources
from lumiere_jax.data.motion import MOTIONS
from lumiere_jax.data.plain import PlainBatches
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import VideoU8

STAGES = ("image", "video")
# Between the seeds of one order and the next.
_ORDERS = 0x9E3779B1

# By data set, for each split to train on, the one it holds back.
_HELD_OUT = {
  "emoji_motion": dict([world.SPLITS]),
  "ucf101": {f"train{n}": f"test{n}" for n in ("", 1, 2, 3)},
  "sprites": dict([world.SPLITS]),
}

dataset_folder = built.dataset_folder


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
  """A clip and all that is known of it (uint8 pixels; phase in frames).

  Speed and size are as in `movements`; "" is the usual one.
  """

  video: VideoU8
  caption: str
  image_caption: str
  emoji: str
  background: str
  movement: str
  phase: int
  speed: str = ""
  size: str = ""


def make_loader(
  cfg: DataConfig,
  *,
  stage: str,
  batch_size: int,
  seed: int,
  rows: Sequence[int] | None = None,
) -> Batches:
  """Endless shuffled batches of what the config names.

  A batch is {"pixels": uint8, "caption": (b,) strings}, where pixels are
  (b, t, h, w, c) in stage "video" and (b, h, w, c), a drawn frame of each
  clip, in stage "image", of `cfg.train_size`; and, of sources that hold
  encoded captions, "text" (b, s, d) and "mask" (b, s). Which examples come,
  and in which order, depends on the seed only, not on the number of workers or
  of processes, each of which reads its rows of the same batches. `get_state`
  and `set_state` resume exactly, with any number of either.

  Args:
    cfg: the data; `num_workers` > 0 needs parsed absl flags (grain).
    stage: "image" or "video".
    batch_size: examples in a batch, of all processes.
    seed: of the order and of what is drawn.
    rows: which of a batch's examples this process reads; None is all.

  Raises:
    UserError: no such data, split, stage or movement, or clips of another
      size; when drawing, too many that are broken.
  """
  if stage not in STAGES:
    raise UserError(f"unknown stage {stage!r}{nearest(stage, STAGES)}")
  sources = open_sources(cfg)
  for part in sources.parts:
    if isinstance(part, BuiltSource):
      _check_shape(part, cfg)
  frames, *size = cfg.train_size
  picked = tuple(range(batch_size) if rows is None else map(int, rows))

  draw = Draw(sources, cfg, stage)
  plain = importlib.util.find_spec("grain") is None
  if plain and (len(sources.parts) > 1 or cfg.focus):
    raise UserError("several data.sources, and data.focus, need grain")

  def batches(order: int) -> Any:
    # Another order is the order of another seed.
    number = (seed + order * _ORDERS) % 2**32
    if plain:
      return PlainBatches(len(sources), draw, batch_size, picked, number)
    import grain

    examples = _order(sources, cfg, number).random_map(draw)
    # Picked after the drawing: an example is the same in any number of parts.
    if picked != tuple(range(batch_size)):
      examples = grain.MapDataset.source(_Rows(examples, batch_size, picked))
    # There is no remainder; grain cannot count one beyond its largest number.
    return examples.batch(len(picked), drop_remainder=True)

  return Batches(
    batches,
    sources,
    num_workers=cfg.num_workers,
    max_broken_share=cfg.max_broken_share,
    batch_bytes=len(picked)
    * math.prod(size)
    * 3
    * (frames if stage == "video" else 1),
  )


@dataclass(frozen=True)
class _Rows:
  """By random access, the examples that are in some rows of each batch."""

  examples: Any
  batch_size: int
  rows: tuple[int, ...]

  def __len__(self) -> int:
    return len(self.examples) // self.batch_size * len(self.rows)

  def __getitem__(self, index: int) -> Any:
    batch, row = divmod(index, len(self.rows))
    return self.examples[batch * self.batch_size + self.rows[row]]


def _order(sources: Mixture, cfg: DataConfig, seed: int) -> Any:
  """Numbers of items without end, shuffled anew in every epoch."""
  import grain

  def endless(numbers: Any) -> Any:
    return grain.MapDataset.source(numbers).seed(seed).shuffle().repeat()

  if cfg.focus:
    parts = list(map(endless, _in_focus(sources.parts[0], cfg)))
    weights = [cfg.focus_share, 1 - cfg.focus_share]
  else:
    parts = list(map(endless, sources.ranges))
    weights = sources.weights
  if len(parts) == 1:
    return parts[0]
  return grain.MapDataset.mix(parts, weights).seed(seed)


def _in_focus(source: Any, cfg: DataConfig) -> tuple[list[int], list[int]]:
  """Numbers of items of the movements that training draws more, and others."""
  labels = source.labels("movement")
  for movement in cfg.focus:
    if movement not in labels:
      raise UserError(
        f"data.focus: no movement {movement!r}{nearest(movement, set(labels))}"
      )
  if set(labels) <= set(cfg.focus):
    raise UserError(f"data.focus={cfg.focus!r} leaves no other movement")
  return tuple(
    [i for i, label in enumerate(labels) if (label in cfg.focus) == chosen]
    for chosen in (True, False)
  )


def captions(cfg: DataConfig) -> list[str]:
  """Every caption that `make_loader` can yield, sorted.

  Raises:
    UserError: no such data.
  """
  return open_sources(cfg).captions()


def fingerprint(cfg: DataConfig) -> str:
  """Sixteen hexadecimal digits of the data's names, sizes and counts.

  Raises:
    UserError: no such data.
  """
  return open_sources(cfg).fingerprint()


def attribution(cfg: DataConfig) -> str:
  """Licence and attribution of what the data were made from.

  Raises:
    UserError: the data or their attribution are missing.
  """
  return open_sources(cfg).attribution()


def held_out(cfg: DataConfig) -> DataConfig | None:
  """The config of the clips that the data hold back from training.

  Of several sources, those that hold any back; None if none does, as shards and
  folders of clips.
  """
  parts = [
    dataclasses.replace(part, split=split)
    for part in cfg.parts
    if (split := _held_out_split(part))
  ]
  if not parts:
    return None
  if cfg.sources:
    return dataclasses.replace(cfg, sources=tuple(parts))
  return dataclasses.replace(cfg, split=parts[0].split, focus=())


def _held_out_split(part: SourceConfig) -> str | None:
  name = part.name if part.kind == "built" else part.kind
  return _HELD_OUT.get(name, {}).get(part.split)


def read_clips(
  cfg: DataConfig, split: str, limit: int | None = None
) -> Iterator[LabelledClip]:
  """Yields the first `limit` clips of a split of emoji_motion, or all.

  They lie in an order shuffled once at building, so the first are a sample.

  Raises:
    UserError: no such dataset or split, or one of other clips.
  """
  if cfg.kind != "built" or cfg.sources:
    raise UserError(
      "evaluation needs the labels of emoji_motion: data.kind='built'"
    )
  source = BuiltSource(cfg, split)
  _check_shape(source, cfg)
  count = len(source) if limit is None else min(limit, len(source))
  motions = {motion.name: motion for motion in MOTIONS}
  for index in range(count):
    values = record.parse(source.records[index])
    texts = {
      name: values[name].decode("utf-8")
      for name in ("caption", "image_caption", "emoji", "background")
    }
    motion = motions[values["movement"].decode("utf-8")]
    yield LabelledClip(
      video=pixels_of(values["video"], source.shape),
      phase=int(values["phase"]),
      **dataclasses.asdict(motion),
      **texts,
    )


def _check_shape(source: BuiltSource, cfg: DataConfig) -> None:
  """Raises UserError if clips that are stored as frames are of another size."""
  wanted = (cfg.num_frames, cfg.size_px, cfg.size_px, 3)
  if source.shape not in (None, wanted):
    raise UserError(
      f"{cfg.name}/{cfg.config} holds clips of {source.shape}, but "
      f"data.num_frames={cfg.num_frames} and data.size_px={cfg.size_px} ask "
      f"for {wanted}"
    )
