# SPDX-License-Identifier: Apache-2.0
"""The meters there are, and what they make of folders of clips."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lumiere_jax import extractors
from lumiere_jax.caption_fit import (
  KIND,
  CaptionFit,
  clip_score,
  frame_consistency,
)
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.plain import PLAIN, plain_measures
from lumiere_jax.meters import Distances, Inception, Means, Meter, Sets
from lumiere_jax.scores import Clip
from lumiere_jax.scoring import canaries
from lumiere_jax.scoring.slices import periodicity
from lumiere_jax.weights import folder

_CAPTIONS = (
  *("CLIP score", "CLIP score, others'", "CLIP captions cut"),
  "CLIP consistency",
)


def pixels(stride: int = 1) -> Means:
  """The measures that need no network, and how much clips repeat themselves.

  They depend on how large frames are, so the card tells that.

  Args:
    stride: frames of the file for one of the clip.
  """

  def values(clip: Clip) -> list[float]:
    found = plain_measures(clip.pixels, clip.fps / stride)
    return [*found.values(), periodicity(clip.pixels)[0]]

  return Means("pixels", (*PLAIN, "periodicity"), values)


def captions(fit: CaptionFit) -> Means:
  """CLIP score and frame consistency, and what the former is worth.

  The score of others' captions is the floor: each clip with the caption of the
  one before it that has another. The share of captions whose end is not read
  tells where a score is of less than was asked for. Clips without a caption
  have neither.
  """
  before: list[str] = []

  def values(clip: Clip) -> list[float]:
    seen = fit.frames(clip.pixels)
    own = other = cut = math.nan
    if clip.caption:
      own = clip_score(seen, fit.caption(clip.caption))
      cut = float(fit.is_cut(clip.caption))
      others = [caption for caption in before if caption != clip.caption]
      if others:
        other = clip_score(seen, fit.caption(others[-1]))
      before[:] = [*others[-1:], clip.caption]
    consistent = frame_consistency(seen) if len(seen) > 1 else math.nan
    return [own, other, cut, consistent]

  return Means(
    fit.network,
    _CAPTIONS,
    values,
    sha256=fit.fingerprint,
    resize=fit.resize,
    hint=" (captions lie beside clips, in sidecars or as text)",
  )


def load(path: str) -> Meter:
  """The meter of a network that import_weights wrote.

  Raises:
    UserError: there is none.
  """
  kind = folder.load_config(Path(path)).get("features", {}).get("kind")
  if kind == KIND:
    return captions(CaptionFit.load(path))
  extractor = extractors.load(path)
  return Inception(extractor) if kind == "c3d" else Distances(extractor)


def read_sets(
  meters: Sequence[Meter],
  real: Iterable[Clip] | None,
  generated: Iterable[Clip],
  seed: int,
) -> list[Sets]:
  """Reads every clip once, and has each meter measure it.

  Args:
    meters: what measures.
    real: real clips; None for none.
    generated: those to score.
    seed: of the canaries.

  Raises:
    UserError: a meter cannot measure a clip.
  """
  clean: list[list[np.ndarray]] = []
  sizes: dict[str, set[str]] = {"real": set(), "generated": set()}
  spoilt: dict[str, list[list[np.ndarray]]] = {n: [] for n in canaries.CANARIES}
  for index, clip in enumerate(real or ()):
    clean.append(_seen(meters, clip))
    sizes["real"].add(_size(clip))
    if index % 2:  # As many stay as a reference.
      for name, rows in spoilt.items():
        worse = canaries.spoil(name, clip.pixels, seed, index)
        rows.append(_seen(meters, clip._replace(pixels=worse)))
  made = []
  for clip in generated:
    made.append(_seen(meters, clip))
    sizes["generated"].add(_size(clip))
  return [
    Sets(
      generated=np.stack([row[i] for row in made]),
      real=np.stack([row[i] for row in clean]) if clean else None,
      spoilt={
        name: np.stack([row[i] for row in rows])
        for name, rows in spoilt.items()
        if rows
      },
      sizes={name: sorted(found) for name, found in sizes.items()},
    )
    for i in range(len(meters))
  ]


def _seen(meters: Sequence[Meter], clip: Clip) -> list[np.ndarray]:
  try:
    return [meter(clip) for meter in meters]
  except UserError as error:
    raise UserError(f"{clip.name}: {error}") from error


def _size(clip: Clip) -> str:
  return f"{clip.pixels.shape[1]} x {clip.pixels.shape[2]}"
