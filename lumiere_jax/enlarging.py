# SPDX-License-Identifier: Apache-2.0
"""An evaluation's rows of super-resolution."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lumiere_jax import trials
from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.task import Material
from lumiere_jax.data import loader
from lumiere_jax.evaluation.enlargement import (
  FILTERS,
  PROTOCOL,
  enlargement_row,
  filtered,
)
from lumiere_jax.evaluation.perceptual import FeatureDistance
from lumiere_jax.inference.cascade import reduced
from lumiere_jax.studio import Studio

Clips = Sequence[np.ndarray]


def upscale_rows(
  model: Lumiere,
  studio: Studio,
  num_clips: int,
  distance: FeatureDistance | None,
  split: str = "held_out",
) -> dict[str, Any]:
  """Rows of real clips made small, and of clips that a model made.

  Args:
    model: an upscaler, or one whose clips it enlarges; only for the latter
      there are generated clips.
    studio: of the model.
    num_clips: in each row.
    distance: as for `enlargement_row`.
    split: of the data set, whose clips and captions are taken.

  Returns:
    protocol; "real" and "generated", with rows for the model and for each of
    FILTERS, and in the first for the clips before they were made small; and
    "still", the model on first frames held: what changes there, it has made.

  Raises:
    UserError: no data set of the enlarged size.
  """
  upscaler = model.for_task("upscale")
  data = replace(upscaler.config.data, data_dir=studio.config.data.data_dir)
  clips = list(loader.read_clips(data, split, num_clips))
  own = Studio(
    replace(upscaler.config, data=data), studio.seed, studio.clips_dir
  )
  scale = upscaler.config.condition.scale
  borders = upscaler.segment_borders()

  def model_row(
    name: str, small: Clips, real: Clips | None = None, **made_with: Any
  ) -> dict[str, Any]:
    row = f"upscale_{name}"
    made_with["split"] = split
    make = own.maker(upscaler, "upscale", row, len(clips), **made_with)
    given = [Material(video=clip) for clip in small]
    made = trials.of_captions(make, clips, given)
    return enlargement_row(made, real, borders, distance)

  def filter_rows(small: Clips, real: Clips | None = None) -> dict[str, Any]:
    return {
      kind: enlargement_row(
        [filtered(low, scale, kind) for low in small], real, borders, distance
      )
      for kind in FILTERS
    }

  real = [clip.video for clip in clips]
  small = [reduced(Material(video=clip), scale).video for clip in real]
  still = [np.repeat(clip[:1], len(clip), axis=0) for clip in small]
  report = {
    "protocol": {
      **PROTOCOL,
      **own.made_with(upscaler),
      "split": split,
      "segment_borders": borders,
      "feature_network": distance and distance.fingerprint,
    },
    "real": {
      "model": model_row("real", small, real),
      **filter_rows(small, real),
      "real": enlargement_row(real, None, borders, distance),
    },
    "still": {"model": model_row("still", still)},
  }
  if upscaler is not model:
    make = studio.maker(
      model, "text_to_video", "to_enlarge", len(clips), split=split
    )
    made = trials.of_captions(make, clips)
    made_with = studio.made_with(model)
    report["generated"] = {
      "model": model_row("generated", made, generated_with=made_with),
      **filter_rows(made),
    }
    report["protocol"]["generated_with"] = made_with
  return report
