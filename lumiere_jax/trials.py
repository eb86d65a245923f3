# SPDX-License-Identifier: Apache-2.0
"""What an evaluation gives a model in each task, taken from real clips."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lumiere_jax.conditioning.mask import Size, draw_box
from lumiere_jax.conditioning.task import (
  STRENGTH,
  TASKS,
  Material,
  Task,
  find_task,
  prepare,
)
from lumiere_jax.config import Config
from lumiere_jax.data.captions import plain_caption
from lumiere_jax.data.loader import LabelledClip
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import (
  Continuation,
  Edit,
  Gallery,
  Labels,
  continuation_row,
  edit_row,
  segment,
)
from lumiere_jax.evaluation.background import Palette
from lumiere_jax.inference.prompt import Request

# Makes the n-th clip of a task, or finds it where it was kept.
Make = Callable[[int, Request, Material], np.ndarray]

_FIRST = 0.2  # of a clip that is extended: 16 frames of 80
_HOLE, _KEPT = 0.5, 0.6  # sides of boxes, as shares of the frame's
_MARGIN = 0.125  # around a sprite that is to move, likewise

PROTOCOL: Mapping[str, str] = {
  "image_to_video": "given is the first frame",
  "first_last": "given are the first and the last frame",
  "inpaint": f"made is a box of {_HOLE:.0%} of height and width, half of them "
  "slide through the clip",
  "outpaint": f"given is a box of {_KEPT:.0%} of height and width, half of "
  "them slide through the clip",
  "cinemagraph": "given is the first frame, and of the others all but the "
  f"sprite's box in it with {_MARGIN:.1%} of the frame around it",
  "extend": f"given is the first {_FIRST:.0%} of the frames",
  "video_to_video": f"strength {STRENGTH}; the caption names another object",
}


def check_tasks(names: Sequence[str]) -> None:
  """Raises UserError unless all are tasks that make clips."""
  for name in names:
    if not find_task(name).clip:
      raise UserError(f"--tasks: {name!r} makes no clips")


def possible_tasks(config: Config) -> tuple[str, ...]:
  """The tasks that weights, with those they name beside, make clips in."""
  kind = config.condition.kind
  masked = config.conditional or kind == "mask"

  def possible(task: Task) -> bool:
    if task.upscales:
      return bool(config.upscaler) or kind == "low_res"
    return kind != "low_res" and (bool(masked) or not task.masked)

  return tuple(n for n, task in TASKS.items() if task.clip and possible(task))


def task_row(
  task: str,
  clips: Sequence[LabelledClip],
  make: Make,
  gallery: Gallery,
  palette: Palette,
) -> dict[str, Any]:
  """The row of a task that starts from more than a prompt.

  Args:
    task: one of PROTOCOL.
    clips: real ones, whose parts are given; at least one.
    make: makes a clip.
    gallery: real frames of every object.
    palette: name to sRGB levels of every background.
  """
  if task == "video_to_video":
    edits = [_edit(clip, i, make, gallery) for i, clip in enumerate(clips)]
    row = edit_row(edits, gallery, palette)
  else:
    trials = [_continuation(task, c, i, make) for i, c in enumerate(clips)]
    row = continuation_row(trials, gallery, palette)
  return row | {"material": PROTOCOL[task]}


def material(task: str, video: np.ndarray, index: int) -> Material:
  """What is given of a real clip in a masked task.

  Args:
    task: its name.
    video: uint8 (t, h, w, 3).
    index: draws what the task leaves open.
  """
  size = Size(*video.shape[:3])
  key = jax.random.key(index)
  if task == "image_to_video":
    return Material(image=video[0])
  if task == "first_last":
    return Material(image=video[0], last_image=video[-1])
  if task == "inpaint":
    hole = np.asarray(draw_box(key, size, _HOLE, _HOLE))
    return Material(video=video, region=hole)
  if task == "outpaint":
    kept = np.asarray(draw_box(key, size, _KEPT, _KEPT))
    return Material(video=video, region=1 - kept)
  if task == "cinemagraph":
    return Material(image=video[0], region=_around_sprite(video))
  return Material(video=video, frames_given=max(1, round(_FIRST * size.t)))


def _continuation(
  task: str, clip: LabelledClip, index: int, make: Make
) -> Continuation:
  brought = material(task, clip.video, index)
  given = prepare(task, brought, Size(*clip.video.shape[:3]))
  return Continuation(
    made=make(index, Request(clip.caption, index), brought),
    real=clip.video,
    given=given.pixels,
    mask=given.mask,
    labels=labels(clip),
  )


def _edit(clip: LabelledClip, index: int, make: Make, gallery: Gallery) -> Edit:
  """Every source gets an object of its own, never the one it has."""
  others = [name for name in gallery.objects if name != clip.emoji]
  wanted = others[index % len(others)]
  prompt = plain_caption(wanted, clip.background, clip.movement)
  brought = Material(video=clip.video, strength=STRENGTH)
  return Edit(
    made=make(index, Request(prompt, index), brought),
    source=clip.video,
    labels=Labels(wanted, clip.background, clip.movement),
    source_object=clip.emoji,
  )


def of_captions(
  make: Make,
  clips: Sequence[LabelledClip],
  given: Sequence[Material] | None = None,
) -> list[np.ndarray]:
  """A clip for the caption of each real one.

  Every clip has noise of its own, so that rows average over it.

  Args:
    make: makes a clip.
    clips: the real ones.
    given: for each what it starts from, if it is more than the caption.
  """
  given = given or [Material()] * len(clips)
  return [
    make(i, Request(clip.caption, i), material)
    for i, (clip, material) in enumerate(zip(clips, given, strict=True))
  ]


def labels(clip: LabelledClip) -> Labels:
  """What is to be seen on a real clip."""
  return Labels(
    clip.emoji, clip.background, clip.movement, clip.speed, clip.size
  )


def _around_sprite(video: np.ndarray) -> np.ndarray:
  """The box of a clip's sprite in its first frame: float32 (1, h, w, 1)."""
  inside = segment(video).mask[0] > 0.5
  region = np.zeros((1, *inside.shape, 1), np.float32)
  box = []
  for axis, length in enumerate(inside.shape):
    margin = round(length * _MARGIN)
    (hits,) = np.nonzero(inside.any(axis=1 - axis))
    low, high = (hits[0], hits[-1]) if len(hits) else (length // 4, length // 2)
    box.append(slice(max(0, low - margin), high + 1 + margin))
  region[:, box[0], box[1]] = 1
  # A sprite may fill the frame; something has to stand still.
  region[:, 0] = 0
  return region
