# SPDX-License-Identifier: Apache-2.0
"""What clips are measured by: networks, or their pixels alone.

A meter makes a vector of every clip, and scores of the vectors of all.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.extractors import Extractor
from lumiere_jax.scores import Clip
from lumiere_jax.scoring.enough import (
  SPLITS,
  check_enough,
  check_splits,
  lacking,
)
from lumiere_jax.scoring.table import (
  Rows,
  Source,
  inception_row,
  mixed,
  rows_beside,
  score_all,
  score_means,
)
from lumiere_jax.shapes import Float

Vectors = Float[np.ndarray, "_ _"]


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
    sizes: of the frames of "generated" and "real" clips, as HEIGHT x WIDTH.
  """

  generated: Vectors
  real: Vectors | None = None
  spoilt: Mapping[str, Vectors] = dataclasses.field(default_factory=dict)
  sizes: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

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
    """Refuses too few clips, or too short ones, before any is read.

    Args:
      real: files of real clips; None if none are given.
      made: files of generated ones.
      setting: of the scores.

    Raises:
      UserError: they are.
    """
    ...

  def __call__(self, clip: Clip) -> Float[np.ndarray, " d"]:
    """The vector of a clip. Raises UserError if there is none."""
    ...

  def rows(self, sets: Sets, setting: Setting) -> Rows:
    """Scores by the names of sets. Raises UserError of too few clips."""
    ...

  def lacking(self, sets: Sets, setting: Setting) -> dict[str, str]:
    """Scores that `rows` leaves out, and why."""
    ...


class Distances:
  """Frechet and kernel distances in the features of a network."""

  def __init__(self, extractor: Extractor):
    """Wraps a network of `extractors.KINDS`."""
    self._extractor, self.name = extractor, extractor.kind

  def check(self, real: int | None, made: int, setting: Setting) -> None:
    """Passes what has a distance. Raises UserError if there is none."""
    self._extractor.check_frames(setting.clips.frames)
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
    real, made = sets.real, sets.generated
    # What could not be read is not there.
    self.check(None if real is None else len(real), len(made), setting)
    scored = functools.partial(
      score_all,
      self._source(setting),
      allow_small=setting.allow_small,
      rounds=setting.rounds,
    )
    return rows_beside(scored, real, made, sets.spoilt)

  def _source(self, setting: Setting) -> Source:
    extractor = self._extractor
    return setting.source(
      extractor.kind,
      extractor.fingerprint,
      extractor.resize,
      extractor.known.title,
    )

  def lacking(self, sets: Sets, setting: Setting) -> dict[str, str]:
    """The Frechet distance in all dimensions, of few clips."""
    return lacking(
      self._source(setting).name(kernel=False),
      0 if sets.real is None else len(sets.real),
      len(sets.generated),
      self._extractor.dimensions,
      allow_small=setting.allow_small,
    )


class Inception:
  """The Inception Score, of a network that tells classes."""

  def __init__(self, extractor: Extractor):
    """Wraps a C3D."""
    self._extractor, self.name = extractor, extractor.kind

  def check(self, real: int | None, made: int, setting: Setting) -> None:
    """Passes what has a score. Raises UserError if there is none."""
    self._extractor.check_frames(setting.clips.frames)
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
      extractor.kind, extractor.fingerprint, extractor.resize
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

  def lacking(self, sets: Sets, setting: Setting) -> dict[str, str]:
    """The score of half of the real clips, of few."""
    del setting
    return {
      f"IS, {name}": f"{len(logits)} clips for {SPLITS} parts"
      for name, logits in sets.by_name().items()
      if len(logits) < SPLITS and name not in sets.spoilt
    }


class Means:
  """Means of values that each clip has by itself."""

  def __init__(
    self,
    name: str,
    names: Sequence[str],
    values: Callable[[Clip], Sequence[float]],
    *,
    sha256: str = "",
    resize: str = "",
    hint: str = "",
  ):
    """Takes the names of the values, and what gives them.

    Args:
      name: of the network, or "pixels".
      names: of the values.
      values: of a clip, in the same order; not a number where it has none.
      sha256: of the network's weights.
      resize: how frames come to its size; "" if they are taken as they are, so
        that values depend on how large they are.
      hint: behind the words that no clip has such a value.
    """
    self.name, self._names, self._values = name, tuple(names), values
    self._network, self._hint = (name, sha256, resize), hint

  def check(self, real: int | None, made: int, setting: Setting) -> None:
    """Passes all: a mean is of any number of clips of any length."""
    del real, made, setting

  def __call__(self, clip: Clip) -> Float[np.ndarray, " d"]:
    """Its values."""
    return np.asarray(self._values(clip), float)

  def rows(self, sets: Sets, setting: Setting) -> Rows:
    """The means of each set of clips."""
    found = {}
    for name, values in sets.by_name().items():
      real = name != "generated"
      network, sha256, resize = self._network
      if not resize:
        sizes = sets.sizes.get("real" if real else "generated", ())
        resize = f"none: frames of {', '.join(sizes)} pixels"
      source = setting.source(network, sha256, resize)
      found[name] = score_means(
        source, self._names, values, setting.rounds, real=real
      )
    return found

  def lacking(self, sets: Sets, setting: Setting) -> dict[str, str]:
    """What no generated clip has a value of."""
    del setting
    nowhere = np.isnan(sets.generated).all(axis=0)
    return {
      name: f"no generated clip has one{self._hint}"
      for name, missing in zip(self._names, nowhere, strict=True)
      if missing
    }
