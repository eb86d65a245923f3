# SPDX-License-Identifier: Apache-2.0
"""In which style a clip is drawn: the colours of its sprite, and its edges.

Both as distances of distributions, from those of real stills of the same
object: Wasserstein-1, of colours in CIELAB along fixed directions (sliced), of
edges by how fast lightness changes inside the sprite, per pixel.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.background import Palette
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.report import Clip, Labels, measure, summarize
from lumiere_jax.evaluation.retrieval import Gallery, spaced_frames

STYLE_PROTOCOL = (
  "Wasserstein-1 from the sprite's pixels to those of training stills of the "
  "same object in the style: colours in CIELAB, sliced along 13 directions; "
  "edges by the gradient of lightness"
)
_FRAMES = 8  # of a clip that are looked at
_INSIDE = 0.5  # of a soft mask
_QUANTILES = (np.arange(64) + 0.5) / 64
# To the faces, edges and corners of a cube; opposite ones are one.
_DIRECTIONS = np.array(
  [d for d in itertools.product((-1, 0, 1), repeat=3) if d > (0, 0, 0)], float
)
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)


@dataclass(frozen=True)
class Strokes:
  """How sprites are drawn.

  Attributes:
    colors: quantiles of their colours in CIELAB along each direction.
    edges: quantiles of the change of lightness from pixel to pixel.
  """

  colors: Float[np.ndarray, "directions quantiles"]
  edges: Float[np.ndarray, " quantiles"]

  def distance(self, other: "Strokes") -> tuple[float, float]:
    """Distances of the colours and of the edges, in units of CIELAB."""
    return (
      float(np.abs(self.colors - other.colors).mean()),
      float(np.abs(self.edges - other.edges).mean()),
    )


def strokes(clips: Iterable[Clip]) -> Strokes:
  """Looks at some frames of clips, all of which count alike.

  Raises:
    UserError: no clips, or nothing is to be seen on them.
  """
  colors, edges = [], []
  for clip in clips:
    seen = segment(clip[spaced_frames(len(clip), min(len(clip), _FRAMES))])
    inside = seen.mask > _INSIDE
    down, across = np.gradient(seen.lab[..., 0], axis=(1, 2))
    colors.append(seen.lab[inside])
    edges.append(np.hypot(down, across)[inside])
  if not sum(map(len, edges)):
    raise UserError("there is no sprite to look at")
  along = np.concatenate(colors) @ _DIRECTIONS.T
  return Strokes(
    colors=np.quantile(along, _QUANTILES, axis=0).T,
    edges=np.quantile(np.concatenate(edges), _QUANTILES),
  )


def style_row(
  clips: Sequence[tuple[Clip, Labels]],
  styles: Mapping[str, Mapping[str, Strokes]],
  gallery: Gallery,
  palette: Palette,
) -> dict[str, Any]:
  """One row: as `report.summarize`, and how near the clips are to styles.

  color_distance and edge_distance hold the mean distance to the strokes of
  each style, of clips on which a sprite is to be seen.

  Args:
    clips: with what they were asked to show.
    styles: by name, how each object is drawn.
    gallery: as for `report.measure`.
    palette: likewise.
  """
  measured = [(measure(clip, gallery, palette), on) for clip, on in clips]
  distances: dict[str, list[tuple[float, float]]] = {
    name: [] for name in styles
  }
  for clip, labels in clips:
    try:
      drawn = strokes([clip])
    except UserError:
      continue
    for name, style in styles.items():
      distances[name].append(drawn.distance(style[labels.object]))
  means = {k: np.mean(v, axis=0).tolist() for k, v in distances.items() if v}
  return summarize(measured) | {
    "color_distance": {name: mean[0] for name, mean in means.items()},
    "edge_distance": {name: mean[1] for name, mean in means.items()},
  }
