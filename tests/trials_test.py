# SPDX-License-Identifier: Apache-2.0
"""Rows of every task by models that are known: one that is right, one not."""

import dataclasses
import json

import numpy as np
import pytest

from lumiere_jax import evaluate, trials
from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.task import TASKS, prepare
from lumiere_jax.config import Config, from_dict
from lumiere_jax.data import loader
from lumiere_jax.data.captions import plain_caption
from lumiere_jax.data.loader import LabelledClip
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation import Labels
from lumiere_jax.weights import folder
from tests.evaluation.conftest import OBJECTS, draw_clip

FRAMES = 24
MASKED = [name for name in trials.PROTOCOL if TASKS[name].masked]


def _clip(emoji, background, movement, seed=0):
  caption = plain_caption(emoji, background, movement)
  return LabelledClip(
    video=draw_clip(emoji, background, movement, num_frames=FRAMES, seed=seed),
    caption=caption,
    image_caption=caption,
    emoji=emoji,
    background=background,
    movement=movement,
    phase=0,
  )


REAL = [
  _clip("lime disc", "blue", "slides right"),
  _clip("salmon square", "white", "grows"),
  _clip("azure triangle", "black", "bounces"),
]


def read_clips(cfg, split, limit):
  """The data set of these tests; its frames suffice for a gallery."""
  if split == "train" and limit == evaluate.GALLERY_CLIPS:
    backgrounds = ("white", "black")
    return [_clip(name, b, "stays") for name in OBJECTS for b in backgrounds]
  return REAL[:limit]


class Oracle(Lumiere):
  """A model that makes what a caption says as the real clips have it."""

  def __init__(self, wrong=False):
    self.config = Config(conditional="other")
    self.info = folder.Info(fingerprint="f" * 64, num_params=0)
    self.wrong = wrong
    self.calls = []

  def for_task(self, task):
    return self

  def with_style(self, style, alpha):
    return self

  def run(self, batch, *, seed, task, material, sampler):
    (request,) = batch
    self.calls.append(task)
    made = np.full((FRAMES, 32, 32, 3), 128, np.uint8)
    if not self.wrong:
      for emoji in OBJECTS:
        for real in REAL:
          wanted = plain_caption(emoji, real.background, real.movement)
          if request.prompt == wanted:
            made = _clip(emoji, real.background, real.movement).video
    given = prepare(task, material, Size(FRAMES, 32, 32))
    if given is not None:
      made = np.where(given.mask, given.pixels, made)
    return made[None]


@pytest.fixture
def oracle(monkeypatch):
  model = Oracle()
  monkeypatch.setattr(Lumiere, "from_config", lambda config: model)
  monkeypatch.setattr(loader, "read_clips", read_clips)
  monkeypatch.setattr(loader, "fingerprint", lambda cfg: "data")
  monkeypatch.setattr(loader, "dataset_folder", lambda cfg: None)
  return model


def _report(**options):
  config = from_dict({"data": {"num_frames": FRAMES, "size_px": 32}})
  return evaluate.evaluate(config, evaluate.Options(num_clips=3, **options))


def test_every_task_that_makes_clips_has_a_protocol():
  clips = {n for n, task in TASKS.items() if task.clip and not task.upscales}
  assert set(trials.PROTOCOL) == clips - {"text_to_video"}


@pytest.mark.parametrize("task", MASKED)
@pytest.mark.parametrize("index", range(4))
def test_material_is_what_the_task_takes(task, index):
  video = REAL[index % 3].video
  given = prepare(
    task, trials.material(task, video, index), Size(*video.shape[:3])
  )
  share = given.mask.mean()
  least, most = {
    "image_to_video": (1 / FRAMES,) * 2,
    "first_last": (2 / FRAMES,) * 2,
    "inpaint": (0.7, 0.8),
    "outpaint": (0.3, 0.42),
    "cinemagraph": (0.05, 0.9),
    "extend": (5 / FRAMES,) * 2,
  }[task]
  assert least - 1e-6 <= share <= most + 1e-6


def test_the_box_of_a_cinemagraph_holds_its_sprite():
  region = trials.material("cinemagraph", REAL[0].video, 0).region[0, ..., 0]
  blue = (REAL[0].video[0] == (30, 70, 210)).all(axis=-1)
  assert region[~blue].all()
  assert 0.2 < region.mean() < 0.8


def test_something_stands_still_behind_a_sprite_that_fills_the_frame():
  video = np.zeros((FRAMES, 32, 32, 3), np.uint8)
  video[:, 1:31, 1:31] = 255
  given = prepare(
    "cinemagraph",
    trials.material("cinemagraph", video, 0),
    Size(*video.shape[:3]),
  )
  assert 0 < given.mask[1:].mean() < 0.1


def test_a_model_that_is_right_has_rows_near_100_percent(oracle):
  report = _report()
  assert set(report) == {
    *("seen", "held_out", "real", "shuffled", "protocol"),
    *trials.PROTOCOL,
  }
  for task in MASKED:
    row = report[task]
    assert row["given_exact"] == row["closer_than_fill"] == 1, task
    if task != "cinemagraph":
      assert row["movement_accuracy"] == row["object_r1"] == 1, task
      assert row["psnr_db"]["made"] is None, task
  assert report["cinemagraph"]["motion"]["given"] == 0
  edit = report["video_to_video"]
  assert edit["object_r1"] == edit["movement_accuracy"] == 1
  assert edit["source_object_r1"] == 0
  # One of the three clips grows; of the others the gallery knows the size.
  assert report["real"]["n_size"] == 2
  assert edit["layout_iou"] > edit["layout_iou_other"]
  json.dumps(report)


def test_labels_are_all_that_a_clip_was_asked_to_show():
  clip = dataclasses.replace(
    REAL[2], movement="spins", speed="slowly", size="big"
  )
  asked = Labels("azure triangle", "black", "spins", "slowly", "big")
  assert trials.labels(clip) == asked


def test_a_model_that_makes_grey_is_seen(oracle):
  oracle.wrong = True
  report = _report(tasks=("image_to_video", "inpaint", "video_to_video"))
  assert "seen" not in report
  for task in ("image_to_video", "inpaint"):
    assert report[task]["given_exact"] == 1
    assert report[task]["closer_than_fill"] < 0.5
  assert report["image_to_video"]["object_r1_along"][2] < 0.5
  assert report["video_to_video"]["background_accuracy"] == 0


def test_a_style_has_a_row_for_each_alpha(oracle):
  report = _report(tasks=(), style="ink", style_data="elsewhere")
  rows = report["style"]["ink"]
  assert set(rows) == {
    *("0", "0.25", "0.5", "0.75", "1", "real ink", "real original")
  }
  for row in rows.values():
    assert set(row["color_distance"]) == {"ink", "original"}


def test_kept_clips_are_not_made_again(oracle, tmp_path):
  options = {"tasks": ("extend", "text_to_video"), "clips": str(tmp_path)}
  first = _report(**options)
  assert oracle.calls == ["text_to_video"] * 6 + ["extend"] * 3
  oracle.calls.clear()
  assert _report(**options) == first
  assert oracle.calls == []
  oracle.info = folder.Info(fingerprint="e" * 64, num_params=0)
  with pytest.raises(UserError, match="are made with weights_fingerprint"):
    _report(**options)


def test_a_model_without_its_conditional_one_is_not_asked_for_it():
  assert trials.possible_tasks(Config()) == ("text_to_video", "video_to_video")


@pytest.mark.parametrize("count", [0, -3])
def test_no_clips_measure_nothing(count):
  flags = ["--config=configs/demo.py", f"--num_clips={count}", "--allow_small"]
  with pytest.raises(UserError, match=f"num_clips={count} must be at least 1"):
    evaluate.main(flags)


def test_tasks_are_checked():
  with pytest.raises(UserError, match="unknown task 'extent'"):
    trials.check_tasks(["extent"])
  with pytest.raises(UserError, match="'text_to_image' makes no clips"):
    trials.check_tasks(["text_to_image"])


def test_nothing_to_measure_is_said(oracle):
  with pytest.raises(UserError, match="--tasks is empty"):
    _report(tasks=())
