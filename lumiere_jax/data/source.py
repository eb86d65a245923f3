# SPDX-License-Identifier: Apache-2.0
"""Where clips come from: captioned items, by random access."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from lumiere_jax.config import DataConfig, SourceConfig
from lumiere_jax.data.render import ClipSize
from lumiere_jax.errors import UserError
from lumiere_jax.media import Unusable
from lumiere_jax.shapes import Bool, Float, VideoU8

# What names a built data set or a folder: one of several sources, or the only
# one.
AnySource = SourceConfig | DataConfig

ATTRIBUTION = "ATTRIBUTION.md"


class Frames(NamedTuple):
  """A clip as it is stored, at its size and rate.

  Attributes:
    data: zlib-compressed uint8.
    shape: (t, h, w, c).
  """

  data: bytes
  shape: tuple[int, int, int, int]


class Text(NamedTuple):
  """A caption as the frozen encoder has encoded it."""

  features: Float[np.ndarray, "s d"]
  mask: Bool[np.ndarray, " s"]


@runtime_checkable
class Drawable(Protocol):
  """A clip that is drawn when it is read, differently each time."""

  def draw(
    self, rng: np.random.Generator, clip: ClipSize, frames: Sequence[int]
  ) -> VideoU8:
    """Draws these frames of a clip of this size."""
    ...


class Item(NamedTuple):
  """What a source has, not yet decoded.

  Attributes:
    media: path of a file, all bytes of one, frames, or what can be drawn.
    caption: what the clip or image shows.
    image_caption: what a still of the clip shows, if that is told apart.
    still: it is an image.
    text: the caption, encoded.
    image_text: the still's caption, encoded.
  """

  media: str | bytes | Frames | Drawable
  caption: str
  image_caption: str | None = None
  still: bool = False
  text: Text | None = None
  image_text: Text | None = None


@runtime_checkable
class Source(Protocol):
  """Items by number; pickled to worker processes, which open files anew.

  Attributes:
    text: what encoded the captions that the items carry, as a text store says
      it (encoder, lower_case, max_tokens, width); None if they carry none.
  """

  text: Mapping[str, Any] | None

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Item:
    """Raises media.Unusable if there is no such item after all."""
    ...

  def name(self, index: int) -> str:
    """How an item is called, once in the source."""
    ...

  def stamp(self, index: int) -> str:
    """Changes if the item does, without reading all of it."""
    ...

  def captions(self) -> list[str]:
    """Every caption that an item has, sorted, each once."""
    ...

  def fingerprint(self) -> str:
    """Sixteen hexadecimal digits of names, sizes and counts."""
    ...

  def attribution(self) -> str:
    """Licence and attribution of what the items show."""
    ...


def take(source: Source, index: int) -> Item:
  """An item of a source.

  Raises:
    Unusable: there is no such item, or its record is damaged.
  """
  try:
    return source[index]
  except Unusable:
    raise
  # A RuntimeError is how ArrayRecord tells of damage.
  except (OSError, ValueError, LookupError, RuntimeError) as error:
    raise Unusable("unreadable", str(error)) from error


def digest(parts: Iterable[Any]) -> str:
  """Sixteen hexadecimal digits of the text of things, in their order."""
  whole = hashlib.sha256()
  for part in parts:
    # Names of files need not be UTF-8.
    whole.update(str(part).encode("utf-8", "surrogatepass") + b"\0")
  return whole.hexdigest()[:16]


def read_attribution(folder: Path) -> str:
  """What a folder says of its licence, or that it says nothing."""
  for name in (ATTRIBUTION, "LICENSE", "LICENSE.txt", "LICENSE.md"):
    if (folder / name).is_file():
      return (folder / name).read_text(encoding="utf-8", errors="replace")
  return (
    f"The clips of {folder.resolve().name!r}; nothing is said there of their "
    f"licence ({ATTRIBUTION})."
  )


def check_folder(folder: str, what: str) -> Path:
  """Returns the folder.

  Raises:
    UserError: there is none.
  """
  if not Path(folder).is_dir():
    raise UserError(f"data_dir={folder!r} is no folder; it must hold {what}")
  return Path(folder)
