# SPDX-License-Identifier: Apache-2.0
"""Batches with one global position; what is broken is counted and told."""

import collections
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from lumiere_jax.data.draw import TRIES
from lumiere_jax.data.mixture import Mixture
from lumiere_jax.data.plain import PlainBatches
from lumiere_jax.errors import UserError

# The share of broken items is that of so many drawn last, and counts from so
# many on.
WINDOW = 2000
ENOUGH = 200
# Of batches that are read ahead, in bytes and in number.
_AHEAD_BYTES = 512 * 2**20
AHEAD = 8


class Ledger:
  """Counts what is drawn and what of it is broken.

  Attributes:
    drawn: items drawn since the run began, broken ones included.
    broken: how many could not be used, by reason.
  """

  def __init__(self, max_share: float):
    """Begins at nothing.

    Args:
      max_share: of broken among drawn items, beyond which `add` raises.
    """
    self.drawn, self.broken = 0, collections.Counter()
    self._max_share = max_share
    self._recent: collections.deque[bool] = collections.deque(maxlen=WINDOW)
    self._told: set[str] = set()

  def add(self, report: str) -> None:
    """Takes in what an example says of those that were tried before it.

    Raises:
      UserError: too many of them are broken.
    """
    failures = json.loads(report) if report else []
    for name, reason, detail in failures:
      self.broken[reason] += 1
      if name not in self._told:
        self._told.add(name)
        tqdm.write(f"skipped {name}: {reason} ({detail})", file=sys.stderr)
    self._recent.extend([True] * len(failures) + [False])
    self.drawn += len(failures) + 1
    drawn, broken = len(self._recent), sum(self._recent)
    over = broken > self._max_share * drawn
    enough = drawn >= ENOUGH or not self._max_share
    if len(failures) >= TRIES:
      raise UserError(
        f"{TRIES} items in a row cannot be used ({self.summary()}); the last "
        f"is {failures[-1][0]!r}"
      )
    if over and enough:
      name = failures[-1][0] if failures else max(self._told, default="")
      raise UserError(
        f"{broken} of the last {drawn} items drawn cannot be used "
        f"({self.summary()}), more than data.max_broken_share="
        f"{self._max_share}; one of them is {name!r}"
      )

  def summary(self) -> str:
    """Counts by reason, the most frequent first."""
    counts = self.broken.most_common()
    return ", ".join(f"{reason}: {count}" for reason, count in counts)


class Batches:
  """Endless batches of this process's share; an iterator with a position.

  The position is the number of batches drawn, which is the same on all
  processes and does not depend on how many they are, nor on the workers.

  Attributes:
    sources: what is drawn from.
    ledger: counts of what was drawn here; its counts go on after a restart.
  """

  def __init__(
    self,
    make: Callable[[int], Any],
    sources: Mixture,
    *,
    num_workers: int = 0,
    max_broken_share: float = 1.0,
    batch_bytes: int = 0,
  ):
    """Reads nothing yet.

    Args:
      make: number of an order to the batches of it: a grain.MapDataset, or
        PlainBatches.
      sources: what they are drawn from.
      num_workers: worker processes; needs parsed absl flags (grain).
      max_broken_share: as in `Ledger`.
      batch_bytes: of one batch, for how many are read ahead.
    """
    self.sources = sources
    self._make, self._num_workers = make, num_workers
    self._order, self._dataset = 0, make(0)
    self._max_broken_share = max_broken_share
    ahead = _AHEAD_BYTES // max(1, batch_bytes)
    self._ahead = min(AHEAD, max(1, ahead))
    self._position, self._iterator = 0, None
    self.ledger = Ledger(max_broken_share)

  def __iter__(self) -> "Batches":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if self._iterator is None:
      self._iterator = self._begin()
    batch = dict(next(self._iterator))
    for report in batch.pop("broken").tolist():
      self.ledger.add(report)
    self._position += 1
    return batch

  def read(self, position: int) -> dict[str, np.ndarray]:
    """The batch at a position, with its "broken", read in this thread."""
    return self._dataset[position]

  def get_state(self) -> dict[str, Any]:
    ledger = self.ledger
    return {
      "batches": self._position,
      "order": self._order,
      "drawn": ledger.drawn,
      "broken": dict(ledger.broken),
    }

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes to a position.

    Raises:
      UserError: the state is of an earlier version, whose positions were
        those of one process.
    """
    if "batches" not in state:
      raise UserError(
        "the position in the data is of an earlier version of lumiere_jax; "
        "begin in another workdir, with --init_from of the old weights"
      )
    self._position, self._iterator = int(state["batches"]), None
    self._order = int(state.get("order", 0))
    self._dataset = self._make(self._order)
    self.ledger = Ledger(self._max_broken_share)
    self.ledger.drawn = int(state.get("drawn", 0))
    self.ledger.broken.update(state.get("broken", {}))

  def reorder(self) -> None:
    """Goes on, from here, in another order and with other parts drawn."""
    self._order, self._iterator = self._order + 1, None
    self._dataset = self._make(self._order)

  def _begin(self) -> Any:
    if isinstance(self._dataset, PlainBatches):
      return self._dataset.iterate(
        self._position, self._ahead, self._num_workers
      )
    import grain

    # Its own position would count batches of one of the workers.
    rest = self._dataset[self._position :]
    batches = rest.to_iter_dataset(
      grain.ReadOptions(
        num_threads=min(4, self._ahead), prefetch_buffer_size=self._ahead
      )
    )
    if self._num_workers:
      options = grain.MultiprocessingOptions(num_workers=self._num_workers)
      batches = batches.mp_prefetch(options)
    return iter(batches)
