# SPDX-License-Identifier: Apache-2.0
"""What a clip keeps of the one it was made from in the words of another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lumiere_jax.evaluation.background import Palette
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.report import Clip, Labels, measure, summarize
from lumiere_jax.evaluation.retrieval import Gallery


@dataclass(frozen=True, kw_only=True)
class Edit:
  """A clip made from another one.

  Attributes:
    made: the clip.
    source: the other one.
    labels: what it was asked to show.
    source_object: what the other one shows.
  """

  made: Clip
  source: Clip
  labels: Labels
  source_object: str


def edit_row(
  edits: Sequence[Edit], gallery: Gallery, palette: Palette
) -> dict[str, Any]:
  """One row: as `report.summarize`, and how much of the source is left.

  layout_iou        overlap of sprite and source's sprite over their union,
                    frame by frame, where a mask is soft by its weight
  layout_iou_other  the same with the source of the edit before: what chance
                    is; None if there is no other
  source_object_r1  share of clips that still show the source's object

  Args:
    edits: at least one.
    gallery: as for `report.measure`.
    palette: likewise.
  """
  measured = [measure(e.made, gallery, palette) for e in edits]
  made = [segment(e.made).mask for e in edits]
  sources = [segment(e.source).mask for e in edits]
  others = sources[-1:] + sources[:-1] if len(edits) > 1 else []
  kept = [
    m.ranking[0] == e.source_object
    for m, e in zip(measured, edits, strict=True)
  ]
  return summarize(
    list(zip(measured, (e.labels for e in edits), strict=True))
  ) | {
    "layout_iou": float(np.mean(list(map(overlap, made, sources)))),
    "layout_iou_other": float(np.mean(list(map(overlap, made, others))))
    if others
    else None,
    "source_object_r1": float(np.mean(kept)),
  }


def overlap(
  one: Float[np.ndarray, "t h w"], other: Float[np.ndarray, "t h w"]
) -> float:
  """Intersection over union of two soft masks; of empty ones it is 0."""
  union = np.maximum(one, other).sum()
  return float(np.minimum(one, other).sum() / union) if union else 0.0
