# SPDX-License-Identifier: Apache-2.0
"""Protocol cards: how a score was measured, and which ones may be compared."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lumiere_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """All that a score depends on but the clips themselves.

  Attributes:
    score: its name; "FVD" is I3D's alone.
    network: what makes the features.
    network_sha256: of its weights, however they are stored.
    resize: what brings frames to the network's size, and which.
    frames: of each clip that is looked at.
    fps: of the file's frames, before any stride.
    stride: frames of the file for one of the clip.
    clip_rule: which part of a longer video is taken.
    real: how many real clips.
    generated: how many generated ones.
    reference: the data set and split of the real ones, and a hash of them.
    seed: of what is drawn: clips, projections, resampling.
    dtype: of the statistics.
    dimensions: of the features that are compared.
    projection: from how many dimensions, and how; "" for none.
    splits: parts of the clips that are scored by themselves; 0 for none, which
      a card does not tell.
  """

  score: str
  network: str
  network_sha256: str
  resize: str
  frames: int
  fps: float
  stride: int
  clip_rule: str
  real: int
  generated: int
  reference: str
  seed: int
  dtype: str
  dimensions: int
  projection: str = ""
  splits: int = 0

  @property
  def hash(self) -> str:
    """Of all fields; 16 hexadecimal digits."""
    text = json.dumps(self._told(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def as_dict(self) -> dict[str, Any]:
    """For JSON, with its hash."""
    return {**self._told(), "hash": self.hash}

  def _told(self) -> dict[str, Any]:
    fields = dataclasses.asdict(self)
    if not self.splits:
      del fields["splits"]
    return fields

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> "Card":
    """What `as_dict` gave.

    Raises:
      UserError: fields are missing or unknown, or the hash is another.
    """
    values = dict(values)
    told = values.pop("hash", None)
    names = {field.name for field in dataclasses.fields(cls)}
    if wrong := sorted(names ^ {"splits", *values}):
      raise UserError(f"a protocol card with or without {', '.join(wrong)}")
    card = cls(**values)
    if told not in (None, card.hash):
      raise UserError(
        f"the protocol card was changed: its hash is {card.hash}, not {told}"
      )
    return card


def differences(one: Card, other: Card) -> dict[str, tuple[Any, Any]]:
  """Fields in which two cards differ, with both values."""
  first, second = dataclasses.asdict(one), dataclasses.asdict(other)
  return {k: (v, second[k]) for k, v in first.items() if v != second[k]}


def check_comparable(one: Card, other: Card) -> None:
  """Passes cards that are equal.

  Raises:
    UserError: they are not; names every field.
  """
  if found := differences(one, other):
    told = "; ".join(f"{k}: {a!r} and {b!r}" for k, (a, b) in found.items())
    raise UserError(
      f"scores of cards {one.hash} and {other.hash} cannot be compared: {told}"
    )
