# SPDX-License-Identifier: Apache-2.0
"""The step of a pipeline that writes shards.

Import this module only to write them: it needs apache_beam.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lumiere_jax.data import prepare
from lumiere_jax.data.beam import import_beam
from lumiere_jax.data.mixture import OPENERS

beam = import_beam()


class WriteShard(beam.DoFn):
  """Writes the shard of each task and yields its number."""

  def __init__(self, job: prepare.Job):
    self._job = job

  def setup(self) -> None:
    """Loads source and encoder, once in a worker."""
    job = self._job
    self._source = OPENERS[job.source.kind](job.source)
    self._numbers = {self._source.name(i): i for i in range(len(self._source))}
    self._encoder = job.make_encoder() if job.make_encoder else None

  def process(self, task: Any) -> Iterator[int]:
    # Runners may hand it on as a plain tuple.
    task = prepare.Task(*task)
    counts = prepare.write_shard(
      task,
      self._numbers,
      self._source,
      self._job.recipe,
      self._encoder,
      Path(self._job.out),
    )
    for reason, count in counts.items():
      beam.metrics.Metrics.counter("clips", reason).inc(count)
    yield task.number
