# SPDX-License-Identifier: Apache-2.0
"""Writes one shard: checks, encodes and describes its items.

A shard is done when its JSON file lies beside its records; what is not done
has no such file, and temporary names alone.
"""

import contextlib
import io
import json
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from lumiere_jax import media
from lumiere_jax.config import SourceConfig
from lumiere_jax.data import pack
from lumiere_jax.data.draw import pixels_of
from lumiere_jax.data.record import open_records
from lumiere_jax.data.shards import FORMAT, as_record, shard_stem
from lumiere_jax.data.source import Frames, Item, Source, Text, digest, take
from lumiere_jax.errors import UserError
from lumiere_jax.media import Facts, Unusable
from lumiere_jax.text.encoder import Encoder

# Captions that are encoded in one call.
_TOGETHER = 64
# Of one file: a record is a message of at most 2 GiB.
MOST_BYTES = 2**31 - 2**24


@dataclass(frozen=True, kw_only=True)
class Recipe:
  """What is done to an item.

  Attributes:
    short_px: videos are encoded anew with a shorter side of this length; 0
      keeps the side.
    fps: and with this many frames a second; 0 keeps their number.
    crf: constant rate factor of the new encoding.
    min_seconds: what is shorter is left out.
  """

  short_px: int = 0
  fps: float = 0.0
  crf: int = 18
  min_seconds: float = 0.0

  def __post_init__(self):
    for name in ("short_px", "fps", "min_seconds"):
      if getattr(self, name) < 0:
        raise UserError(f"--{name}={getattr(self, name)} must be >= 0")
    if not 0 <= self.crf <= 51:
      raise UserError(f"--crf={self.crf} must be in 0..51")

  @property
  def encodes(self) -> bool:
    """Whether videos are encoded anew rather than copied."""
    return bool(self.short_px or self.fps)


@dataclass(frozen=True, kw_only=True)
class Job:
  """What is made of what; pickled to workers.

  Attributes:
    source: where items come from; workers must find it there too.
    out: folder of the shards, likewise.
    recipe: what is done to items.
    make_encoder: loads the text encoder; None leaves captions as they are.
    text: what it is, as a text store says it.
    num_shards: how many shards; 0 is as many as there are, or by the items.
  """

  source: SourceConfig
  out: str
  recipe: Recipe
  make_encoder: Callable[[], Encoder] | None = None
  text: Mapping[str, Any] | None = None
  num_shards: int = 0


class Task(NamedTuple):
  """One shard of those to write.

  Attributes:
    number: its number.
    total: how many there are.
    names: of its items.
    plan: changes if anything of what it is made of does.
  """

  number: int
  total: int
  names: tuple[str, ...]
  plan: str


def plan_shards(
  source: Source, total: int, recipe: Recipe, text: Any
) -> list[Task]:
  """Shares items out by their names: a new one changes no other's shard.

  Args:
    source: of the items.
    total: how many shards.
    recipe: what is done to items.
    text: what encodes captions.
  """
  shares: list[dict[str, str]] = [{} for _ in range(total)]
  for index in range(len(source)):
    name = source.name(index)
    shares[int(digest([name]), 16) % total][name] = source.stamp(index)
  how = json.dumps([FORMAT, asdict(recipe), text, total], sort_keys=True)
  return [
    Task(
      number, total, tuple(sorted(share)), digest([how, *sorted(share.items())])
    )
    for number, share in enumerate(shares)
  ]


def is_done(task: Task, out: Path) -> bool:
  """Whether the shard lies there, made of the same."""
  stem = shard_stem(task.number, task.total)
  try:
    about = json.loads((out / f"{stem}.json").read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return False
  records = out / f"{stem}.array_record"
  if about.get("plan") != task.plan or not records.is_file():
    return False
  try:
    # Not so where a machine went down before its disk had all.
    return len(open_records([records])) == len(about["clips"])
  except UserError:
    return False


def remove_leftovers(out: Path) -> None:
  """Removes what a killed pipeline had begun; none may be running."""
  for path in out.glob(".clips-*.tmp"):
    path.unlink(missing_ok=True)


def write_shard(
  task: Task,
  numbers: dict[str, int],
  source: Source,
  recipe: Recipe,
  encoder: Encoder | None,
  out: Path,
) -> Counter:
  """Writes a shard and its JSON file; returns how many items became what.

  Args:
    task: which.
    numbers: of the source's items, by their names.
    source: of the items.
    recipe: what is done to them.
    encoder: of captions, if they are to be encoded.
    out: folder of the shards.
  """
  from array_record.python.array_record_module import ArrayRecordWriter

  stem = shard_stem(task.number, task.total)
  done = out / f"{stem}.json"
  done.unlink(missing_ok=True)
  about = {"plan": task.plan, "clips": [], "facts": [], "dropped": []}
  with _replacing(out / f"{stem}.array_record") as temporary:
    # Every record for itself, as they are read; video does not shrink.
    writer = ArrayRecordWriter(str(temporary), "group_size:1,uncompressed")
    try:
      for name, item, text in _items(task, numbers, source, encoder, about):
        try:
          data, facts = prepared(item, recipe)
        except Unusable as error:
          about["dropped"].append((name, error.reason, error.detail))
          continue
        writer.write(as_record(name, item, data, text))
        about["clips"].append((name, item.caption))
        about["facts"].append((facts and (*facts, len(data))) or len(data))
    finally:
      writer.close()
  with _replacing(done) as temporary:
    temporary.write_text(json.dumps(about), encoding="utf-8")
  counts = Counter(reason for _, reason, _ in about["dropped"])
  return counts + Counter(written=len(about["clips"]))


def prepared(item: Item, recipe: Recipe) -> tuple[bytes, Facts | None]:
  """The bytes of an item as they are stored; the facts of a video.

  Raises:
    Unusable: it is of no use.
  """
  if item.still:
    return _still(item, recipe), None
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "v.mp4"
    if isinstance(item.media, Frames):
      clip = pixels_of(*item.media)
      fps = recipe.fps or pack.FPS
      media.encode_mp4(path, clip, clip.shape[1:3], fps, crf=str(recipe.crf))
      facts = media.probe(path)
    elif recipe.encodes:
      facts = media.transcode(
        item.media,
        path,
        short_px=recipe.short_px,
        fps=recipe.fps,
        crf=recipe.crf,
      )
    else:
      facts = media.probe(item.media)
      path = item.media
    if facts.seconds < recipe.min_seconds - 1e-3:
      raise Unusable(
        "too short", f"{facts.seconds:.2f} s, needed {recipe.min_seconds:.2f} s"
      )
    return _bytes_of(path), facts


def _bytes_of(file: str | Path | bytes) -> bytes:
  if isinstance(file, bytes):
    return file
  if (size := Path(file).stat().st_size) > MOST_BYTES:
    raise Unusable("too large", f"{size:,} bytes, at most {MOST_BYTES:,} fit")
  return Path(file).read_bytes()


def _still(item: Item, recipe: Recipe) -> bytes:
  """An image as it is, or smaller as a JPEG of high quality."""
  try:
    pixels, _ = media.read_image(item.media)
  except UserError as error:
    raise Unusable("unreadable", str(error.__cause__ or error)) from error
  short = min(pixels.shape[:2])
  if not recipe.short_px or short <= recipe.short_px:
    return _bytes_of(item.media)
  image = Image.fromarray(pixels)
  scale = recipe.short_px / short
  size = (round(image.width * scale), round(image.height * scale))
  file = io.BytesIO()
  image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=95)
  return file.getvalue()


def _items(
  task: Task,
  numbers: dict[str, int],
  source: Source,
  encoder: Encoder | None,
  about: dict[str, Any],
) -> Iterator[tuple[str, Item, Text | None]]:
  """The items of a shard with their captions encoded; notes what has none."""
  for start in range(0, len(task.names), _TOGETHER):
    some: list[tuple[str, Item]] = []
    for name in task.names[start : start + _TOGETHER]:
      try:
        if name not in numbers:
          raise Unusable("missing", "it has gone since the pipeline began")
        some.append((name, take(source, numbers[name])))
      except Unusable as error:
        about["dropped"].append((name, error.reason, error.detail))
    texts = _encoded(encoder, [item.caption for _, item in some])
    for (name, item), text in zip(some, texts, strict=True):
      yield name, item, text


def _encoded(
  encoder: Encoder | None, captions: Sequence[str]
) -> list[Text | None]:
  if encoder is None or not captions:
    return [None] * len(captions)
  features, mask = encoder.encode(captions)
  return [Text(*row) for row in zip(features, mask, strict=True)]


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
  """Yields a temporary path that becomes `path`, whatever lay there."""
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)
