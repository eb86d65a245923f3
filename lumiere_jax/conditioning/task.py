# SPDX-License-Identifier: Apache-2.0
"""The tasks, rows of one table: what a task wants, and what it gives.

A task turns the user's material into (C, M) of `conditioning/mask.py`; which
pixels are given is all in which the tasks of the conditional model differ.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from lumiere_jax.conditioning import mask as masks
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import UInt8, VideoU8

# Of SDEdit, where none is given.
STRENGTH = 0.6


@dataclass(frozen=True, kw_only=True)
class Material:
  """What a user brings, at the size of the clip; None is absent.

  `lumiere_jax.media.read_image(path, size).pixels` and `read_video` make such
  arrays of files.

  Attributes:
    image: uint8 (h, w, 3), the first frame, or the picture to bring to life.
    last_image: the same, the last frame.
    video: uint8 (t, h, w, 3), a clip.
    region: (1 or t, h, w, 1), 1 where to generate, 0 where to keep: one frame
      for all, or one for each.
    frames_given: how many frames of the video are given.
    strength: how much of the noise SDEdit adds: 0 keeps the video, 1 nothing
      of it.
  """

  image: UInt8[np.ndarray, "h w 3"] | None = None
  last_image: UInt8[np.ndarray, "h w 3"] | None = None
  video: VideoU8 | None = None
  region: np.ndarray | None = None
  frames_given: int | None = None
  strength: float | None = None


class Given(NamedTuple):
  """What is given of a clip.

  Attributes:
    pixels: uint8 (t, h, w, 3); of any value where nothing is given.
    mask: bool (t, h, w, 1), true where it is.
  """

  pixels: np.ndarray
  mask: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Task:
  """One row of the table.

  Attributes:
    summary: for the user.
    needs: fields of Material without which it cannot be done.
    given: what is given, or None if the task starts from text alone.
    clip: whether it makes a clip rather than an image.
    from_clip: whether it starts from a noised clip (SDEdit).
    upscales: whether it is one of super-resolution.
  """

  summary: str
  needs: tuple[str, ...] = ()
  given: Callable[[Material, masks.Size], Given] | None = None
  clip: bool = True
  from_clip: bool = False
  upscales: bool = False

  @property
  def masked(self) -> bool:
    """Whether it wants the model that sees what is given."""
    return self.given is not None

  @property
  def enlarged_by(self) -> str:
    """The task that enlarges what it makes."""
    return "upscale" if self.clip else "upscale_image"


def find_task(name: str) -> Task:
  """The row of a name. Raises UserError if there is no such task."""
  if name not in TASKS:
    raise UserError(f"unknown task {name!r}{nearest(name, TASKS)}")
  return TASKS[name]


def prepare(name: str, material: Material, size: masks.Size) -> Given | None:
  """What is given in a task, checked.

  Args:
    name: of the task.
    material: as large as the clip.
    size: of the clip.

  Raises:
    UserError: no such task, something it needs is absent, something it does
      not use is there, or everything or nothing is given.
  """
  task = find_task(name)
  if not isinstance(material, Material):
    raise UserError(f"material={type(material).__name__} must be a Material")
  check_material(name, {k for k, v in vars(material).items() if v is not None})
  _check_arrays(material, size)
  if task.from_clip and not 0 <= material.strength <= 1:
    raise UserError(f"--strength={material.strength} must be in [0, 1]")
  if task.given is None:
    return None
  given = task.given(material, size)
  if given.mask.all():
    raise UserError(f"task {name!r}: everything is given, nothing to generate")
  if not given.mask.any():
    raise UserError(
      f"task {name!r}: nothing is given; text_to_video makes a clip of text"
    )
  return given


def _check_arrays(material: Material, size: masks.Size) -> None:
  """Raises UserError if an array is of another shape or type than it must."""
  frame = (size.h, size.w)
  for name, value, shapes in (
    ("image", material.image, [(*frame, 3)]),
    ("last_image", material.last_image, [(*frame, 3)]),
    ("video", material.video, [(size.t, *frame, 3)]),
    ("region", material.region, [(1, *frame, 1), (size.t, *frame, 1)]),
  ):
    if value is None:
      continue
    shape = getattr(value, "shape", None)
    if shape not in shapes:
      raise UserError(
        f"material.{name} is {shape or type(value).__name__}, it must be an "
        f"array of shape {' or '.join(map(str, shapes))}"
      )
    if name != "region" and value.dtype != np.uint8:
      raise UserError(f"material.{name} is {value.dtype}, it must be uint8")


def nothing_given(size: masks.Size) -> Given:
  """What the conditional model is told where there is text alone."""
  return Given(np.zeros((*size, 3), np.uint8), np.zeros((*size, 1), bool))


def check_material(name: str, present: set[str]) -> None:
  """Raises UserError unless a task has what it needs and nothing else."""
  needs = TASKS[name].needs
  for field in needs:
    if field not in present:
      raise UserError(f"task {name!r} needs --{_FLAGS[field]}")
  for field in sorted(present - set(needs)):
    raise UserError(
      f"task {name!r} has no use for --{_FLAGS[field]}; it takes "
      + (", ".join(f"--{_FLAGS[f]}" for f in needs) or "a prompt alone")
    )


def _image_to_video(material: Material, size: masks.Size) -> Given:
  clip = _still(material.image, size)
  return _given(clip, masks.first_frames(size, 1))


def _first_last(material: Material, size: masks.Size) -> Given:
  clip = _still(material.image, size)
  clip[-1] = material.last_image
  return _given(clip, masks.both_ends(size))


def _inpaint(material: Material, size: masks.Size) -> Given:
  return _given(material.video, masks.outside(_region(material), size))


def _cinemagraph(material: Material, size: masks.Size) -> Given:
  clip = _still(material.image, size)
  given = _given(clip, masks.outside_after_first(_region(material), size))
  if not given.mask[1:].any():
    raise UserError(
      "task 'cinemagraph': all of the image is to move, as image_to_video "
      "does it"
    )
  return given


def _extend(material: Material, size: masks.Size) -> Given:
  count = material.frames_given
  if not 0 < count < size.t:
    raise UserError(f"--frames_given={count} must be in 1..{size.t - 1}")
  return _given(material.video, masks.first_frames(size, count))


def _region(material: Material) -> jnp.ndarray:
  return jnp.asarray(material.region, jnp.float32)


def _still(image: np.ndarray, size: masks.Size) -> np.ndarray:
  return np.repeat(image[None], size.t, axis=0)


def _given(pixels: np.ndarray, mask: masks.Mask) -> Given:
  return Given(pixels, np.asarray(mask) > 0.5)


_FLAGS = {
  "image": "image",
  "last_image": "last_image",
  "video": "video",
  "region": "mask (or --keep)",
  "frames_given": "frames_given",
  "strength": "strength",
}

TASKS: Mapping[str, Task] = {
  "text_to_video": Task(summary="a clip of a prompt"),
  "text_to_image": Task(summary="an image of a prompt", clip=False),
  "image_to_video": Task(
    summary="a clip that begins with an image",
    needs=("image",),
    given=_image_to_video,
  ),
  "first_last": Task(
    summary="a clip between two images",
    needs=("image", "last_image"),
    given=_first_last,
  ),
  "inpaint": Task(
    summary="a region of a video made anew",
    needs=("video", "region"),
    given=_inpaint,
  ),
  "outpaint": Task(
    summary="what lies around a part of a video",
    needs=("video", "region"),
    given=_inpaint,
  ),
  "cinemagraph": Task(
    summary="an image of which a region moves",
    needs=("image", "region"),
    given=_cinemagraph,
  ),
  "extend": Task(
    summary="how a video goes on",
    needs=("video", "frames_given"),
    given=_extend,
  ),
  "video_to_video": Task(
    summary="a video in the words of another prompt (SDEdit)",
    needs=("video", "strength"),
    from_clip=True,
  ),
  "upscale": Task(
    summary="a video enlarged (super-resolution)",
    needs=("video",),
    upscales=True,
  ),
  "upscale_image": Task(
    summary="an image enlarged",
    needs=("image",),
    clip=False,
    upscales=True,
  ),
}
