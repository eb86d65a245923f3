# SPDX-License-Identifier: Apache-2.0
"""Measures of a clip that know nothing of what made it."""

from lumiere_jax.evaluation.background import classify_background
from lumiere_jax.evaluation.continuation import Continuation, continuation_row
from lumiere_jax.evaluation.flicker import flicker, frame_differences
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.layout import Edit, edit_row
from lumiere_jax.evaluation.motion import classify_movement
from lumiere_jax.evaluation.report import (
  Labels,
  evaluate_rows,
  shuffle_labels,
)
from lumiere_jax.evaluation.retrieval import DescriptorConfig, Gallery
from lumiere_jax.evaluation.strokes import (
  STYLE_PROTOCOL,
  Strokes,
  strokes,
  style_row,
)
from lumiere_jax.evaluation.table import format_table

__all__ = [
  "STYLE_PROTOCOL",
  "Continuation",
  "DescriptorConfig",
  "Edit",
  "Gallery",
  "Labels",
  "Strokes",
  "classify_background",
  "classify_movement",
  "continuation_row",
  "edit_row",
  "evaluate_rows",
  "flicker",
  "format_table",
  "frame_differences",
  "segment",
  "shuffle_labels",
  "strokes",
  "style_row",
]
