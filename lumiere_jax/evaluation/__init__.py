# SPDX-License-Identifier: Apache-2.0
"""Measures of a clip that know nothing of what made it."""

from lumiere_jax.evaluation.background import classify_background
from lumiere_jax.evaluation.flicker import flicker, frame_differences
from lumiere_jax.evaluation.motion import MOVEMENTS, classify_movement
from lumiere_jax.evaluation.report import (
  Labels,
  evaluate_rows,
  format_table,
  shuffle_labels,
)
from lumiere_jax.evaluation.retrieval import DescriptorConfig, Gallery

__all__ = [
  "MOVEMENTS",
  "DescriptorConfig",
  "Gallery",
  "Labels",
  "classify_background",
  "classify_movement",
  "evaluate_rows",
  "flicker",
  "format_table",
  "frame_differences",
  "shuffle_labels",
]
