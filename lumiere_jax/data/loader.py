# SPDX-License-Identifier: Apache-2.0
"""Reads a built dataset: batches for training, labelled clips for evaluation.

Needs neither TensorFlow nor tensorflow_datasets: the ArrayRecord files are
read by random access through grain.
"""

import functools
import hashlib
import json
import math
import operator
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumiere_jax.config import DataConfig
from lumiere_jax.data import record
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import UInt8, VideoU8

STAGES = ("image", "video")


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
  """A clip and all that is known of it (uint8 pixels; phase in frames)."""

  video: VideoU8
  caption: str
  image_caption: str
  emoji: str
  background: str
  movement: str
  phase: int


@dataclass(frozen=True)
class _Draw:
  """Turns a record into a training example; pickled to worker processes."""

  shape: tuple[int, int, int, int]
  size: tuple[int, int, int]
  stage: str
  motion_caption_rate: float

  def __call__(
    self, data: bytes, rng: np.random.Generator
  ) -> dict[str, np.ndarray]:
    values = record.parse(data)
    if self.stage == "video":
      pixels = _pixels(values["video"], self.shape)
      pixels = self._cut(pixels, self.size, rng)
      return {"pixels": pixels, "caption": _text(values["caption"])}
    index = int(rng.integers(self.shape[0]))
    motion = rng.random() < self.motion_caption_rate
    caption = values["caption" if motion else "image_caption"]
    frame = _frame(values["video"], self.shape, index)
    frame = self._cut(frame, self.size[1:], rng)
    return {"pixels": frame, "caption": _text(caption)}

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


def make_loader(
  cfg: DataConfig,
  *,
  stage: str,
  batch_size: int,
  seed: int,
  shard_index: int = 0,
  shard_count: int = 1,
) -> Any:
  """Endless shuffled batches of `cfg.split`, as a grain iterator.

  An element is {"pixels": uint8, "caption": (b,) strings}, where pixels are
  (b, t, h, w, c) in stage "video" and (b, h, w, c), a drawn frame of each
  clip, in stage "image", of `cfg.train_size`. Which examples come, and in which
  order, depends on the seed only, not on the number of workers; all shards
  together see what one would. `get_state` and `set_state` resume exactly.

  Args:
    cfg: the dataset; `num_workers` > 0 needs parsed absl flags (grain).
    stage: "image" or "video".
    batch_size: examples in a batch of this shard.
    seed: of the order and of what is drawn.
    shard_index: which share of the examples this process reads.
    shard_count: how many shares there are.

  Raises:
    UserError: no such dataset, split, stage or movement, or one of other
      clips.
  """
  import grain

  if stage not in STAGES:
    raise UserError(f"unknown stage {stage!r}{nearest(stage, STAGES)}")
  draw = _Draw(_shape(cfg), cfg.train_size, stage, cfg.motion_caption_rate)
  dataset = _order(_source(cfg, cfg.split), cfg, seed).random_map(draw)
  # Sliced after the drawing: an example is the same in any number of shards.
  dataset = dataset[shard_index::shard_count]
  # There is no remainder; grain cannot count one beyond its largest number.
  dataset = dataset.batch(batch_size, drop_remainder=True)
  batches = dataset.to_iter_dataset(
    grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)
  )
  if cfg.num_workers:
    options = grain.MultiprocessingOptions(num_workers=cfg.num_workers)
    batches = batches.mp_prefetch(options)
  return iter(batches)


def _order(source: Any, cfg: DataConfig, seed: int) -> Any:
  """Records without end, shuffled anew in every epoch."""
  import grain

  if not cfg.focus:
    return grain.MapDataset.source(source).seed(seed).shuffle().repeat()
  labels = [_text(record.parse(data)["movement"]) for data in source]
  for movement in cfg.focus:
    if movement not in labels:
      raise UserError(
        f"data.focus: no movement {movement!r}{nearest(movement, set(labels))}"
      )
  if set(labels) <= set(cfg.focus):
    raise UserError(f"data.focus={cfg.focus!r} leaves no other movement")
  focus, rest = (
    grain.MapDataset.source(
      [i for i, label in enumerate(labels) if (label in cfg.focus) == chosen]
    )
    .seed(seed)
    .shuffle()
    .repeat()
    for chosen in (True, False)
  )
  indices = grain.MapDataset.mix(
    [focus, rest], [cfg.focus_share, 1 - cfg.focus_share]
  )
  return indices.map(functools.partial(operator.getitem, source)).seed(seed)


def captions(cfg: DataConfig) -> list[str]:
  """Every caption that `make_loader` can yield for `cfg.split`, sorted.

  Raises:
    UserError: no such dataset or split.
  """
  folder = dataset_folder(cfg)
  text = (folder / "metadata.json").read_text(encoding="utf-8")
  by_split = json.loads(text)["captions"]
  if cfg.split not in by_split:
    raise _no_split(cfg.split, by_split)
  return by_split[cfg.split]


def read_clips(
  cfg: DataConfig, split: str, limit: int | None = None
) -> Iterator[LabelledClip]:
  """Yields the first `limit` clips of a split, all without a limit.

  They lie in an order shuffled once at building, so the first are a sample.

  Raises:
    UserError: no such dataset or split, or one of other clips.
  """
  shape = _shape(cfg)
  source = _source(cfg, split)
  count = len(source) if limit is None else min(limit, len(source))
  for index in range(count):
    values = record.parse(source[index])
    yield LabelledClip(
      video=_pixels(values["video"], shape),
      caption=_text(values["caption"]),
      image_caption=_text(values["image_caption"]),
      emoji=_text(values["emoji"]),
      background=_text(values["background"]),
      movement=_text(values["movement"]),
      phase=int(values["phase"]),
    )


def fingerprint(cfg: DataConfig) -> str:
  """Sixteen hexadecimal digits of the dataset's description.

  It counts examples and bytes, and names the version and its source.
  """
  folder = dataset_folder(cfg)
  digest = hashlib.sha256()
  for name in ("dataset_info.json", "features.json", "metadata.json"):
    digest.update((folder / name).read_bytes())
  return digest.hexdigest()[:16]


def attribution(cfg: DataConfig) -> str:
  """Licence and attribution of what the dataset was made from.

  Raises:
    UserError: the dataset or its attribution is missing.
  """
  path = dataset_folder(cfg) / "ATTRIBUTION.md"
  try:
    return path.read_text(encoding="utf-8")
  except OSError as error:
    raise UserError(f"cannot read {path}: {error.strerror}") from error


def dataset_folder(cfg: DataConfig) -> Path:
  """The newest version's folder of a built dataset.

  Raises:
    UserError: it has not been built; the message says how.
  """
  parent = Path(cfg.data_dir) / cfg.name / cfg.config
  versions = sorted(
    (path.parent for path in parent.glob("[0-9]*/dataset_info.json")),
    key=lambda path: [int(part) for part in path.name.split(".")],
  )
  if not versions:
    raise UserError(
      f"no dataset {cfg.name}/{cfg.config} in {cfg.data_dir!r}; build it with "
      f"python -m lumiere_jax.data.write --dataset={cfg.name} "
      f"--config={cfg.config} --sprites=PACK --data_dir={cfg.data_dir}"
    )
  return versions[-1]


def _source(cfg: DataConfig, split: str) -> Any:
  import grain

  folder = dataset_folder(cfg)
  files = sorted(folder.glob(f"{cfg.name}-{split}.array_record-*"))
  if not files:
    found = folder.glob(f"{cfg.name}-*.array_record-*")
    raise _no_split(split, {p.name.split("-")[1].split(".")[0] for p in found})
  return grain.sources.ArrayRecordDataSource([str(path) for path in files])


def _no_split(split: str, choices: Any) -> UserError:
  return UserError(f"unknown data split {split!r}{nearest(split, choices)}")


def _shape(cfg: DataConfig) -> tuple[int, int, int, int]:
  """(t, h, w, c) of the stored clips, checked against the config."""
  text = (dataset_folder(cfg) / "features.json").read_text(encoding="utf-8")
  video = json.loads(text)["featuresDict"]["features"]["video"]["tensor"]
  stored = tuple(int(n) for n in video["shape"]["dimensions"])
  wanted = (cfg.num_frames, cfg.size_px, cfg.size_px, 3)
  if stored != wanted:
    raise UserError(
      f"{cfg.name}/{cfg.config} holds clips of {stored}, but data.num_frames="
      f"{cfg.num_frames} and data.size_px={cfg.size_px} ask for {wanted}"
    )
  return stored


def _pixels(data: bytes, shape: tuple[int, int, int, int]) -> VideoU8:
  return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)


def _frame(
  data: bytes, shape: tuple[int, int, int, int], index: int
) -> UInt8[np.ndarray, "h w c"]:
  """One frame, without decompressing those behind it."""
  size = math.prod(shape[1:])
  head = zlib.decompressobj().decompress(data, (index + 1) * size)
  return np.frombuffer(head, np.uint8, size, index * size).reshape(shape[1:])


def _text(data: bytes) -> str:
  return data.decode("utf-8")
