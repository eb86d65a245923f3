# SPDX-License-Identifier: Apache-2.0
"""Stylised generation: weights between two models (section 4.1)."""

from typing import Any

import jax.numpy as jnp

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree

# Of a sweep: the original, the style, and three between.
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def interpolate(original: PyTree, style: PyTree, alpha: float) -> PyTree:
  """W = alpha W_style + (1 - alpha) W_orig.

  Args:
    original: spatial parameters of the model of clips.
    style: those of a text-to-image model fine-tuned from them.
    alpha: 0 is the original, 1 the style, both to the bit; the paper takes 0.5
      to 1.

  Raises:
    UserError: the style is of another network.
  """
  if difference := trees.diff(original, style):
    raise UserError(f"the style is of another network: {difference}")
  leaves = trees.flatten(style)

  def between(path: str, leaf: Any) -> Any:
    if alpha == 0.0:
      return leaf
    target = jnp.asarray(leaves[path], leaf.dtype)
    return target if alpha == 1.0 else alpha * target + (1.0 - alpha) * leaf

  mixed = {p: between(p, leaf) for p, leaf in trees.flatten(original).items()}
  return trees.unflatten(mixed)
