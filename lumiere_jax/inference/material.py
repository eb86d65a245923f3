# SPDX-License-Identifier: Apache-2.0
"""Reads what a user brings for a task: images, videos, masks."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from lumiere_jax import media
from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.task import Material, check_material
from lumiere_jax.errors import UserError

_BOX = "box:"
_FILES = ("image", "last_image", "video", "mask", "keep")


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


def makes_bars(task: str, sources: Sources) -> bool:
  """Whether what `fit="pad"` adds to the video is what is to be made."""
  return task == "outpaint" and sources.fit == "pad" and not sources.mask


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
      f"--frames_given={wanted}, but {sources.video} has only {covered} frames "
      f"at {fps:g} fps"
    )
  spec = sources.mask or sources.keep
  if spec is None and makes_bars(task, sources):
    # All of the video is kept, and nothing beside it.
    spec = f"{_BOX}0,0,{source.w},{source.h}"
  if spec is not None:
    region = _read_region(spec, source, size, fps, covered, fit)
    if sources.mask is None:
      region = 1.0 - region
  return Material(
    image=image,
    last_image=last_image,
    video=video,
    region=region,
    frames_given=sources.frames_given,
    strength=sources.strength,
  ), notes


def file_hashes(sources: Sources) -> dict[str, str]:
  """SHA-256 of every file of the sources, by name."""
  given = sources.given()
  return {
    name: hashlib.sha256(Path(given[name]).read_bytes()).hexdigest()
    for name in _FILES
    if name in given and not given[name].startswith(_BOX)
  }


def _length_notes(path: str, footage: media.Footage) -> list[str]:
  count = len(footage.clip)
  if footage.trimmed:
    return [f"{path} is cut after {count} frames at {footage.fps:g} fps"]
  if footage.covered < count:
    return [
      f"{path} has {footage.covered} frames at {footage.fps:g} fps; the last "
      f"is held to the end of the {count}"
    ]
  return []


def _read_region(
  spec: str,
  source: media.Size,
  size: Size,
  fps: float | int,
  covered: int,
  fit: str,
) -> np.ndarray:
  """The white part of a mask at the clip's size: float32 (1 or t, h, w, 1)."""
  if spec.startswith(_BOX):
    frames = _box(spec, source)[None]
  elif (still := _still_mask(spec)) is not None:
    frames = still[None]
  else:
    footage = media.read_video(spec, fps=fps, num_frames=size.t)
    if footage.covered < covered:
      raise UserError(
        f"mask {spec} has {footage.covered} frames at {fps:g} fps, it must "
        f"have {covered}"
      )
    frames = footage.clip.mean(-1)
  if frames.shape[1:] != tuple(source):
    h, w = frames.shape[1:]
    raise UserError(
      f"mask {spec} has {w} x {h} pixels, it must have {source.w} x {source.h}"
    )
  target = media.Size(size.h, size.w)
  fitted = [
    media.fit_image(Image.fromarray(f.astype(np.uint8)), target, fit)
    for f in frames
  ]
  white = np.stack([np.asarray(f) for f in fitted]) >= 128
  return white[..., None].astype(np.float32)


def _still_mask(path: str) -> np.ndarray | None:
  """Grey levels of an image file; None if it is no image."""
  if not Path(path).is_file():
    raise UserError(
      f"no such mask file: {path}; a box is {_BOX}x0,y0,x1,y1 in pixels"
    )
  try:
    with Image.open(path):
      pass
  except UnidentifiedImageError:
    return None
  except Exception as error:  # What damaged headers lead to.
    raise UserError(f"cannot read {path} as a mask: {error}") from error
  return media.read_image(path).pixels.mean(-1)


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
  image = Image.new("L", (source.w, source.h))
  ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill=255)
  return np.asarray(image)
