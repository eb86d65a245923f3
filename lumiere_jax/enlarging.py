# SPDX-License-Identifier: Apache-2.0
"""An evaluation's rows of super-resolution."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.task import Material
from lumiere_jax.data import loader
from lumiere_jax.evaluation.enlargement import (
  FILTERS,
  PROTOCOL,
  Enlargement,
  enlargement_row,
  filtered,
)
from lumiere_jax.evaluation.perceptual import FeatureDistance
from lumiere_jax.inference.cascade import reduced
from lumiere_jax.inference.prompt import Request
from lumiere_jax.studio import Studio


def upscale_rows(
  model: Lumiere,
  studio: Studio,
  num_clips: int,
  distance: FeatureDistance | None,
) -> dict[str, Any]:
  """Rows of real held-out clips made small, and of clips that a model made.

  Args:
    model: an upscaler, or one whose clips it enlarges; only for the latter
      there are generated clips.
    studio: of the model.
    num_clips: in each row.
    distance: as for `enlargement_row`.

  Returns:
    protocol, "real" and "generated"; of each rows for the model and for
    each of FILTERS; and in the first one for the clips before they were made
    small.

  Raises:
    UserError: no data set of the enlarged size.
  """
  upscaler = model.for_task("upscale")
  data = replace(upscaler.config.data, data_dir=studio.config.data.data_dir)
  clips = list(loader.read_clips(data, "held_out", num_clips))
  own = Studio(
    replace(upscaler.config, data=data), studio.seed, studio.clips_dir
  )
  scale = upscaler.config.condition.scale
  borders = upscaler.segment_borders()

  def rows(
    name: str, small: Sequence[np.ndarray], **made_with: Any
  ) -> dict[str, Any]:
    real = [c.video if name == "real" else None for c in clips]
    make = own.maker(
      upscaler, "upscale", f"upscale_{name}", len(clips), **made_with
    )
    large = {
      "model": [
        make(i, Request(clip.caption, i), Material(video=low))
        for i, (clip, low) in enumerate(zip(clips, small, strict=True))
      ]
    }
    for kind in FILTERS:
      large[kind] = [filtered(low, scale, kind) for low in small]
    if name == "real":
      large["real"] = [clip.video for clip in clips]
    found = {}
    for kind, made in large.items():
      pairs = [
        Enlargement(made=a, real=None if kind == "real" else b)
        for a, b in zip(made, real, strict=True)
      ]
      found[kind] = enlargement_row(pairs, borders, distance)
    return found

  report = {
    "protocol": {
      **PROTOCOL,
      **own.made_with(upscaler),
      "segment_borders": borders,
      "feature_network": distance and distance.fingerprint,
    },
    "real": rows("real", [_smaller(c.video, scale) for c in clips]),
  }
  if upscaler is not model:
    make = studio.maker(model, "text_to_video", "to_enlarge", len(clips))
    made = [
      make(i, Request(c.caption, i), Material()) for i, c in enumerate(clips)
    ]
    made_with = studio.made_with(model)
    report["generated"] = rows("generated", made, generated_with=made_with)
    report["protocol"]["generated_with"] = made_with
  return report


def _smaller(clip: np.ndarray, scale: int) -> np.ndarray:
  return reduced(Material(video=clip), scale).video
