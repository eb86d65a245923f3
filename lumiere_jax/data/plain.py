# SPDX-License-Identifier: Apache-2.0
"""Batches of one source where grain is not installed."""

import collections
import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

_THREADS = 4

Example = dict[str, np.ndarray | str]


@dataclass(frozen=True)
class PlainBatches:
  """Batches by position: each epoch is a permutation of its own.

  As with grain, what a position gives depends on the seed alone, and an example
  has random numbers of its own. The order is not that of grain.

  Attributes:
    size: number of items.
    draw: (number of an item, random numbers) -> example.
    batch_size: examples of a batch, over all processes.
    rows: which of them this process reads.
    seed: of the order and of what is drawn.
  """

  size: int
  draw: Callable[[int, np.random.Generator], Example]
  batch_size: int
  rows: Sequence[int]
  seed: int

  def __getitem__(self, position: int) -> dict[str, np.ndarray]:
    examples = [
      self._example(position * self.batch_size + row) for row in self.rows
    ]
    return {
      name: np.stack([example[name] for example in examples])
      for name in examples[0]
    }

  def _example(self, position: int) -> Example:
    epoch, index = divmod(position, self.size)
    number = int(_permutation(self.seed, epoch, self.size)[index])
    return self.draw(number, np.random.default_rng([self.seed, position]))

  def iterate(
    self, position: int, ahead: int, num_workers: int
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches from a position on, without end.

    Args:
      position: of the first batch.
      ahead: batches that are read ahead.
      num_workers: processes that read; 0 reads in threads.
    """
    with _executor(num_workers) as pool:
      pending: collections.deque[Any] = collections.deque()
      try:
        while True:
          while len(pending) <= ahead:
            pending.append(pool.submit(self.__getitem__, position))
            position += 1
          yield pending.popleft().result()
      finally:
        pool.shutdown(wait=False, cancel_futures=True)


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
  return np.random.default_rng([seed, epoch, size]).permutation(size)


def _executor(num_workers: int) -> Executor:
  if not num_workers:
    return ThreadPoolExecutor(_THREADS)
  spawn = multiprocessing.get_context("spawn")
  return ProcessPoolExecutor(num_workers, mp_context=spawn)
