# SPDX-License-Identifier: Apache-2.0
"""Reads what a user brings for a task: images, videos, masks."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lumiere_jax import media
from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.task import Material, check_material
from lumiere_jax.errors import UserError

FILES = ("image", "last_image", "video", "mask", "keep")
_BOX = "box:"
# Of a file's length; sound that ends a little later is no damage.
_MISSING = 0.2


@dataclass(frozen=True, kw_only=True)
class Sources:
  """Where a user's material lies, as the command line has it.

  Attributes:
    image: path of an image.
    last_image: path of another one.
    video: path of a video.
    mask: white, or inside the box, is what to generate: path of an image or a
      video as large as the material, or "box:x0,y0,x1,y1" in its pixels.
    keep: the same for what to keep, in place of `mask`.
    frames_given: how many frames of the video are given.
    strength: of SDEdit.
    fit: how material of another shape is brought to the clip's.
  """

  image: str | None = None
  last_image: str | None = None
  video: str | None = None
  mask: str | None = None
  keep: str | None = None
  frames_given: int | None = None
  strength: float | None = None
  fit: str | None = None

  def given(self) -> dict[str, Any]:
    """Those that are there, by name."""
    values = {f.name: getattr(self, f.name) for f in fields(self)}
    return {name: value for name, value in values.items() if value is not None}


def saved_sources(values: Mapping[str, Any]) -> Sources:
  """The sources that `Sources.given` of a sidecar told.

  Raises:
    UserError: there is no such source, or it is of another type.
  """
  names = [f.name for f in fields(Sources)]
  types = {"frames_given": int, "strength": (int, float)}
  for name, value in values.items():
    if name not in names or not isinstance(value, types.get(name, str)):
      raise UserError(f"the sidecar's source {name}={value!r} cannot be right")
  return Sources(**values)


def check_sources(task: str, sources: Sources) -> None:
  """Raises UserError unless a task has what it needs and nothing else."""
  present = set(sources.given())
  if {"mask", "keep"} <= present:
    raise UserError("--mask and --keep say the same: give one of them")
  if present & {"mask", "keep"}:
    present = present - {"mask", "keep"} | {"region"}
  if makes_bars(task, sources):
    present |= {"region"}
  check_material(task, present - {"fit"})
  fit = sources.fit
  if fit is not None and fit not in media.FITS:
    raise UserError(f"unknown --fit={fit!r}; choices: {', '.join(media.FITS)}")
  if fit is not None and not present & {"image", "last_image", "video"}:
    raise UserError(f"task {task!r} has no use for --fit: nothing is to be fit")


def makes_bars(task: str, sources: Sources) -> bool:
  """Whether what `fit="pad"` adds to the video is what is to be made."""
  return task == "outpaint" and sources.fit == "pad"


def read_material(
  task: str, sources: Sources, size: Size, fps: float | int
) -> tuple[Material, list[str]]:
  """Reads all sources of a task to the size and frame rate of the clip.

  Returns:
    The material, and a line for each liberty that was taken with it.

  Raises:
    UserError: a file is absent or damaged, a mask is of another size or too
      short, or frames that are to be given are not there.
  """
  fit = sources.fit or "crop"
  frame = media.Size(size.h, size.w)
  notes: list[str] = []
  image = last_image = video = region = None
  source = None
  if sources.image is not None:
    image, source = media.read_image(sources.image, frame, fit)
  if sources.last_image is not None:
    last_image, _ = media.read_image(sources.last_image, frame, fit)
  covered = size.t
  if sources.video is not None:
    footage = media.read_video(
      sources.video, fps=fps, num_frames=size.t, size=frame, fit=fit
    )
    video, source, covered = footage.clip, footage.source, footage.covered
    notes += _length_notes(sources.video, footage)
  wanted = sources.frames_given or 0
  if covered < wanted <= size.t:
    raise UserError(
      f"--frames_given={wanted}, but {sources.video} has only "
      f"{_frames(covered)} at {fps:g} fps"
    )
  bars = makes_bars(task, sources)
  whole = f"{_BOX}0,0,{source.w},{source.h}" if source else ""
  spec = sources.mask if sources.mask is not None else sources.keep
  if spec is None and bars:
    spec = whole
  if spec is not None:
    white = _read_region(spec, source, size, fps, covered, fit)
    region = 1.0 - white if sources.mask is None else white
    if fit == "pad":
      inside = _read_region(whole, source, size, fps, covered, fit)
      region = np.where(inside > 0, region, np.float32(bars))
  return Material(
    image=image,
    last_image=last_image,
    video=video,
    region=region,
    frames_given=sources.frames_given,
    strength=sources.strength,
  ), notes


def is_box(spec: str) -> bool:
  """Whether a mask is told as a box rather than by a file."""
  return spec.startswith(_BOX)


def file_hashes(sources: Sources) -> dict[str, str | None]:
  """SHA-256 of every file of the sources; None of one that cannot be read."""
  given = sources.given()
  return {
    name: _sha256(given[name])
    for name in FILES
    if name in given and not is_box(given[name])
  }


def _sha256(path: str) -> str | None:
  try:
    with open(path, "rb") as file:
      return hashlib.file_digest(file, "sha256").hexdigest()
  except OSError:
    return None


def _length_notes(path: str, footage: media.Footage) -> list[str]:
  count, notes = len(footage.clip), []
  at = f"at {footage.fps:g} fps"
  if footage.trimmed:
    notes.append(f"{path} is cut after {count} frames {at}")
  if footage.covered < count:
    notes.append(
      f"{path} has {_frames(footage.covered)} {at}; its last is held to the "
      f"end of the {count}"
    )
  read = footage.covered / footage.fps
  if footage.missing > _MISSING * (read + footage.missing):
    notes.append(
      f"{path} is damaged or cut off: {footage.missing:.1f} s of it cannot be "
      "read"
    )
  return notes


def _frames(count: int) -> str:
  return f"{count} frame" + "s" * (count != 1)


def _read_region(
  spec: str,
  source: media.Size,
  size: Size,
  fps: float | int,
  covered: int,
  fit: str,
) -> np.ndarray:
  """The white part of a mask at the clip's size: float32 (1 or t, h, w, 1)."""
  target = media.Size(size.h, size.w)
  if is_box(spec):
    frames = _fitted(spec, _box(spec, source), target, fit)
    own = source
  elif _is_still(spec):
    picture = _still_mask(spec)
    frames, own = _fitted(spec, picture.pixels, target, fit), picture.source
  else:
    footage = _moving_mask(spec, fps, size, fit)
    frames, own = footage.clip, footage.source
    if footage.covered < covered:
      raise UserError(
        f"mask {spec} has {_frames(footage.covered)} at {fps:g} fps, it must "
        f"have {covered}"
      )
  if own != source:
    raise UserError(
      f"mask {spec} has {own.w} x {own.h} pixels, it must have "
      f"{source.w} x {source.h}"
    )
  white = frames.mean(-1, keepdims=True) >= 128
  return white.astype(np.float32)


def _fitted(
  spec: str, image: np.ndarray, target: media.Size, fit: str
) -> np.ndarray:
  """One frame (1, h, w, 3) of the size, of the mask that is called `spec`.

  Raises:
    UserError: it has white, of which nothing is left.
  """
  small = np.asarray(media.fit_image(Image.fromarray(image), target, fit))
  if image.max() >= 128 and small.mean(-1).max() < 128:
    raise UserError(
      f"mask {spec}: its white is so small, or cut off by --fit={fit}, that "
      f"nothing is left of it at {target.w} x {target.h} pixels"
    )
  return small[None]


def _is_still(path: str) -> bool:
  """Whether the file is an image rather than a video or an animation."""
  if not Path(path).is_file():
    raise UserError(
      f"no such mask file: {path!r}; a box is {_BOX}x0,y0,x1,y1 in pixels"
    )
  return media.frames_of_image(path) == 1


def _still_mask(path: str) -> media.Picture:
  """A mask that is an image; what is transparent is not white."""
  try:
    return media.read_image(path, behind="black")
  except UserError as error:
    raise UserError(f"mask: {error}") from error


def _moving_mask(
  path: str, fps: float | int, size: Size, fit: str
) -> media.Footage:
  target = media.Size(size.h, size.w)
  try:
    return media.read_video(
      path, fps=fps, num_frames=size.t, size=target, fit=fit, behind="black"
    )
  except UserError as error:
    raise UserError(f"mask, which is no still image: {error}") from error


def _box(spec: str, source: media.Size) -> np.ndarray:
  """White inside the box, black outside of it."""
  try:
    x0, y0, x1, y1 = (int(v) for v in spec.removeprefix(_BOX).split(","))
  except ValueError:
    raise UserError(
      f"{spec!r} is no box; write {_BOX}x0,y0,x1,y1 in whole pixels"
    ) from None
  if not (0 <= x0 < x1 <= source.w and 0 <= y0 < y1 <= source.h):
    raise UserError(
      f"{spec!r} must lie in 0,0,{source.w},{source.h} and have "
      "x0 < x1, y0 < y1"
    )
  image = np.zeros((source.h, source.w, 3), np.uint8)
  image[y0:y1, x0:x1] = 255
  return image
