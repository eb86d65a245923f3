# SPDX-License-Identifier: Apache-2.0
"""What clips are measured by: networks, or their pixels alone.

A meter makes a vector of every clip, and scores of the vectors of all.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

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
from lumiere_jax.extractors import Extractor
from lumiere_jax.scores import Clip
from lumiere_jax.scoring import canaries
from lumiere_jax.scoring.slices import periodicity
from lumiere_jax.scoring.table import (
  SPLITS,
  Rows,
  Source,
  check_enough,
  check_splits,
  inception_row,
  mixed,
  rows_beside,
  score_all,
  score_means,
)
from lumiere_jax.shapes import Float
from lumiere_jax.weights import folder

Vectors = Float[np.ndarray, "_ _"]

_CAPTIONS = (
  *("CLIP score", "CLIP score, others'", "CLIP captions cut"),
  "CLIP consistency",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
  """What the cards of all meters share, and how sure scores are to be.

  Attributes:
    clips: what cards tell of the clips and of the reference.
    rounds: of the bootstrap.
    allow_small: whether too few clips are scored too.
  """

  clips: Source
  rounds: int = 200
  allow_small: bool = False

  def source(
    self, network: str, sha256: str, resize: str, title: str = ""
  ) -> Source:
    """Of the scores of a meter."""
    return dataclasses.replace(
      self.clips,
      title=title,
      network=network,
      network_sha256=sha256,
      resize=resize,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sets:
  """The vectors of all sets of clips, of one meter.

  Attributes:
    generated: of those that are scored.
    real: of the real ones; None if none are given.
    spoilt: of every second real clip, by canary.
  """

  generated: Vectors
  real: Vectors | None = None
  spoilt: Mapping[str, Vectors] = dataclasses.field(default_factory=dict)

  def by_name(self) -> dict[str, Vectors]:
    """All sets that are scored each by itself, as tables name them.

    "real" is of the clips that are spoilt in the others.
    """
    found = {"generated": self.generated}
    if self.real is not None:
      found["real, all"] = self.real
      if len(self.real) > 1:
        found |= {"real": self.real[1::2], **self.spoilt}
    return found


@runtime_checkable
class Meter(Protocol):
  """Makes a vector of each clip, and scores of the vectors of all."""

  name: str

  def check(self, real: int | None, made: int, setting: Setting) -> None:
    """Refuses too few clips, before any is read.

    Args:
      real: files of real clips; None if none are given.
      made: files of generated ones.
      setting: of the scores.

    Raises:
      UserError: they are too few.
    """
    ...

  def __call__(self, clip: Clip) -> Float[np.ndarray, " d"]:
    """The vector of a clip. Raises UserError if there is none."""
    ...

  def rows(self, sets: Sets, setting: Setting) -> Rows:
    """Scores by the names of sets. Raises UserError of too few clips."""
    ...


class Distances:
  """Frechet and kernel distances in the features of a network."""

  def __init__(self, extractor: Extractor):
    """Wraps a network of `extractors.KINDS`."""
    self._extractor, self.name = extractor, extractor.kind

  def check(self, real: int | None, made: int, setting: Setting) -> None:
    """Passes what has a distance. Raises UserError of too few clips."""
    if real is None:
      raise UserError(f"scores of {self.name} are against --real clips")
    check_enough(
      real,
      made,
      self._extractor.dimensions,
      allow_small=setting.allow_small,
    )

  def __call__(self, clip: Clip) -> Float[np.ndarray, " d"]:
    """Its features."""
    return self._extractor(clip.pixels)

  def rows(self, sets: Sets, setting: Setting) -> Rows:
    """As `rows_beside`.

    Raises:
      UserError: there are too few clips.
    """
    extractor, real, made = self._extractor, sets.real, sets.generated
    # What could not be read is not there.
    self.check(None if real is None else len(real), len(made), setting)
    source = setting.source(
      extractor.kind,
      extractor.fingerprint,
      extractor.known.resize,
      extractor.known.title,
    )

    scored = functools.partial(
      score_all,
      source,
      allow_small=setting.allow_small,
      rounds=setting.rounds,
    )
    return rows_beside(scored, real, made, sets.spoilt)


class Inception:
  """The Inception Score, of a network that tells classes."""

  def __init__(self, extractor: Extractor):
    """Wraps a C3D."""
    self._extractor, self.name = extractor, extractor.kind

  def check(self, real: int | None, made: int, setting: Setting) -> None:
    """Passes what has a score. Raises UserError of too few clips."""
    for count in (made, *(() if real is None else (real,))):
      check_splits(
        count, self._extractor.dimensions, allow_small=setting.allow_small
      )

  def __call__(self, clip: Clip) -> Float[np.ndarray, " d"]:
    """Its logits."""
    return self._extractor(clip.pixels)

  def rows(self, sets: Sets, setting: Setting) -> Rows:
    """The score of each set of clips, `mixed`.

    Raises:
      UserError: there are too few clips.
    """
    extractor = self._extractor
    source = setting.source(
      extractor.kind, extractor.fingerprint, extractor.known.resize
    )
    self.check(
      None if sets.real is None else len(sets.real),
      len(sets.generated),
      setting,
    )
    found = {}
    for name, logits in sets.by_name().items():
      if len(logits) < SPLITS:
        continue  # Of the half of the real clips.
      logits = mixed(logits, setting.clips.seed)
      found[name] = [inception_row(source, logits, real=name != "generated")]
    return found


class Means:
  """Means of values that each clip has by itself."""

  def __init__(
    self,
    name: str,
    names: Sequence[str],
    values: Callable[[Clip], Sequence[float]],
    *,
    sha256: str = "",
    resize: str = "none",
  ):
    """Takes the names of the values, and what gives them.

    Args:
      name: of the network, or "pixels".
      names: of the values.
      values: of a clip, in the same order; not a number where it has none.
      sha256: of the network's weights.
      resize: how frames come to its size.
    """
    self.name, self._names, self._values = name, tuple(names), values
    self._network = (name, sha256, resize)

  def check(self, real: int | None, made: int, setting: Setting) -> None:
    """Passes all: a mean is of any number of clips."""
    del real, made, setting

  def __call__(self, clip: Clip) -> Float[np.ndarray, " d"]:
    """Its values."""
    return np.asarray(self._values(clip), float)

  def rows(self, sets: Sets, setting: Setting) -> Rows:
    """The means of each set of clips."""
    source = setting.source(*self._network)
    return {
      name: score_means(
        source, self._names, values, setting.rounds, real=name != "generated"
      )
      for name, values in sets.by_name().items()
    }


def pixels(stride: int = 1) -> Means:
  """The measures that need no network, and how much clips repeat themselves.

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
    return [own, other, cut, frame_consistency(seen)]

  return Means(
    fit.network, _CAPTIONS, values, sha256=fit.fingerprint, resize=fit.resize
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
  spoilt: dict[str, list[list[np.ndarray]]] = {n: [] for n in canaries.CANARIES}
  for index, clip in enumerate(real or ()):
    clean.append([meter(clip) for meter in meters])
    if index % 2:  # As many stay as a reference.
      for name, rows in spoilt.items():
        worse = canaries.spoil(name, clip.pixels, seed, index)
        worse = clip._replace(pixels=worse)
        rows.append([meter(worse) for meter in meters])
  made = [[meter(clip) for meter in meters] for clip in generated]
  return [
    Sets(
      generated=np.stack([row[i] for row in made]),
      real=np.stack([row[i] for row in clean]) if clean else None,
      spoilt={
        name: np.stack([row[i] for row in rows])
        for name, rows in spoilt.items()
        if rows
      },
    )
    for i in range(len(meters))
  ]
