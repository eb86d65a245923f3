# SPDX-License-Identifier: Apache-2.0
"""Clips of files, as they are scored: which files, which of their frames."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lumiere_jax import media
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.plain import BLOCK_PX
from lumiere_jax.shapes import UInt8

Pixels = UInt8[np.ndarray, "t h w 3"]

# These do not tell how often frames follow: arrays tell nothing, and animated
# images show equal neighbours as one frame.
_UNTIMED = (".npy", ".webp", ".gif")


class Clip(NamedTuple):
  """A clip of a file.

  Attributes:
    name: of the file, from its folder on.
    pixels: uint8 (t, h, w, 3).
    fps: frames a second of the file that they are of, before any stride.
    caption: what it is to show; "" if nothing tells.
  """

  name: str
  pixels: Pixels
  fps: float | int
  caption: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cut:
  """Which frames of a file are its clip.

  Attributes:
    frames: how many.
    fps: that the file is brought to first, by its timestamps; 0 keeps its own,
      which arrays and animated images have by their sidecars only. An array
      without a sidecar is taken to have it.
    stride: every which-th frame is taken.
  """

  frames: int = 16
  fps: float | int = 0
  stride: int = 1

  def __post_init__(self):
    for name in ("frames", "stride"):
      if (value := getattr(self, name)) < 1:
        raise UserError(f"--{name}={value} must be >= 1")
    if self.fps < 0:
      raise UserError(f"--fps={self.fps:g} must be >= 0")

  @property
  def needed(self) -> int:
    """Frames that a file must have."""
    return (self.frames - 1) * self.stride + 1

  @property
  def rule(self) -> str:
    """For the protocol card."""
    return "the first frames; shorter files are left out"

  def read(self, path: Path) -> tuple[Pixels, float | int]:
    """The clip, and the frames a second of the file it is of.

    Raises:
      UserError: the file is damaged, shorter than the clip, or of no known
        rate.
    """
    fps = self.fps
    if path.suffix.lower() in _UNTIMED:
      fps = fps or _told_rate(path)
      if not fps:
        raise UserError(f"{path} tells no frame rate: --fps says it")
    if path.suffix.lower() == ".npy":
      pixels = self._at_rate(_load(path), _told_rate(path) or fps)
    else:
      footage = media.read_video(path, fps=fps or None, num_frames=self.needed)
      pixels, fps = footage.clip[: footage.covered], footage.fps
    if min(size := pixels.shape[1:3]) < BLOCK_PX:
      raise UserError(
        f"{path} has frames of {size[0]} x {size[1]} pixels: "
        f"{BLOCK_PX} x {BLOCK_PX} is the least"
      )
    if len(pixels) < self.needed:
      raise UserError(f"{path} has {len(pixels)} of {self.needed} frames")
    return pixels[: self.needed : self.stride], fps

  def _at_rate(
    self, pixels: UInt8[np.ndarray, "n h w 3"], told: float | int
  ) -> Pixels:
    """Frames of so many a second, brought to `fps` as those of videos are."""
    if not self.fps or self.fps == told:
      return pixels
    timed = ((i / told, (i + 1) / told, i) for i in range(len(pixels)))
    shown = itertools.islice(media.resampled(timed, self.fps), self.needed)
    return pixels[[i for _, _, i in shown]]


class Folder:
  """The clips of a folder in the order of their names, or one file's clip.

  Attributes:
    path: of the folder, or of the file.
    files: what is read: clips of the folder itself, or, if there are none, of
      all folders below. Of several files of one name one, and of clips that
      were enlarged not the small ones (`.low`) beside them.
    left_out: file by file, why it was left out of what was read.
  """

  def __init__(self, path: str, cut: Cut):
    """Raises UserError if there is no such folder, or no clip in it."""
    self.path, self._cut = Path(path), cut
    self.left_out: dict[str, str] = {}
    self._read = hashlib.sha256()
    if self.path.is_file():
      self.files = [self.path]
      return
    if not self.path.is_dir():
      raise UserError(f"{path} is no folder of clips, and no clip")
    files = [f for f in self.path.iterdir() if f.is_file()]
    self.files = media.clips_among(files) or media.clips_among(
      file
      for file in self.path.rglob("*")
      if not any(p.startswith(".") for p in file.relative_to(self.path).parts)
    )
    if not self.files:
      raise UserError(
        f"{path} has no clip in it: none of {', '.join(media.CLIPS)}"
      )

  def __len__(self) -> int:
    """Files, those that cannot be read among them."""
    return len(self.files)

  def __iter__(self) -> Iterator[Clip]:
    """Every clip that can be read; the others are told in `left_out`.

    Raises:
      UserError: at the end, if it was none.
    """
    self._read, found = hashlib.sha256(), False
    for path in self.files:
      name = (
        str(path.relative_to(self.path)) if path != self.path else str(path)
      )
      try:
        pixels, fps = self._cut.read(path)
        caption = media.read_caption(path)
      except UserError as error:
        self.left_out[name] = str(error)
        continue
      with path.open("rb") as file:
        self._read.update(hashlib.file_digest(file, "sha256").digest())
      found = True
      yield Clip(name, pixels, fps, caption)
    if not found:
      first = next(iter(self.left_out.values()))
      raise UserError(
        f"none of {len(self.files)} clips could be read, the first: {first}"
      )

  @property
  def fingerprint(self) -> str:
    """SHA-256 of the files that were read last, one after the other."""
    return self._read.hexdigest()


def _told_rate(file: Path) -> float | int:
  """Frames a second as the sidecar of `sample` tells them; 0 if none does.

  Raises:
    UserError: the sidecar cannot be read.
  """
  found: Any = media.read_sidecar(file)
  for name in ("config", "data", "fps"):
    found = found.get(name) if isinstance(found, dict) else None
  return found if isinstance(found, int | float) and found > 0 else 0


def _load(path: Path) -> Pixels:
  """The array of a file.

  Raises:
    UserError: it is damaged, or no clip.
  """
  try:
    with path.open("rb") as file:  # NumPy leaves damaged ones open.
      pixels = np.load(file)
  except (OSError, ValueError, EOFError) as error:
    raise UserError(f"cannot read {path} as an array: {error}") from None
  if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
    raise UserError(
      f"{path} holds {pixels.dtype} of shape {pixels.shape}, not uint8 of "
      "(frames, height, width, 3)"
    )
  return pixels
