# SPDX-License-Identifier: Apache-2.0
"""Any source to shards of clips, as an Apache Beam pipeline.

list -> assignment to shards by name -> for each shard that is not done: check,
encode, write, rename. A pipeline that is run again writes only what is not
there, or was made of something else.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax.data import prepare, shards
from lumiere_jax.data.beam import import_beam, silence
from lumiere_jax.data.mixture import OPENERS
from lumiere_jax.data.prepare import Job
from lumiere_jax.data.source import ATTRIBUTION, Source, digest
from lumiere_jax.errors import UserError, nearest, of_the_disk

# Of so many items a shard is made, unless the number of shards is given.
PER_SHARD = 256
# Workers tell all they do, unless a flag says what is to be told.
_QUIET = "--default_sdk_harness_log_level=WARNING"
_SHARD = re.compile(r"clips-\d{5}-of-(\d{5})\.json")


def run(
  job: Job,
  beam_flags: Sequence[str] = (),
  make_text: Callable[[], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
  """Writes the shards that are not there yet; returns the report.

  Args:
    job: what is made of what.
    beam_flags: of Beam's own runners; the default is this process alone.
    make_text: gives `job.text`; called when all else is as it must be.

  Raises:
    UserError: no Beam, no such source, a flag that nobody knows, shards of
      another number, a full disk, or nothing that can be used.
  """
  beam = import_beam()
  from lumiere_jax.data.shard_writer import WriteShard

  options = _options(beam_flags)
  source = OPENERS[job.source.kind](job.source)
  out = Path(job.out)
  total = _num_shards(job, source)
  if make_text is not None:
    job = dataclasses.replace(job, text=make_text())
  tasks = prepare.plan_shards(source, total, job.recipe, job.text)
  pending = [task for task in tasks if not prepare.is_done(task, out)]
  if pending:
    (out / shards.DESCRIPTION).unlink(missing_ok=True)
    with _plain_errors(job.out), _new_pipeline(options) as pipeline:
      _ = (
        pipeline
        | "shards" >> beam.Create(pending)
        | "spread" >> beam.Reshuffle()
        | "write" >> beam.ParDo(WriteShard(job))
      )
  prepare.remove_leftovers(out)
  return _finish(job, tasks, source, len(pending))


def _new_pipeline(options: Any) -> Any:
  """A pipeline of Beam's options. Raises UserError for what lacks."""
  try:
    return import_beam().Pipeline(options=options)
  except ValueError as error:
    text = " ".join(str(error).split())
    raise UserError(f"Apache Beam: {text}") from error


@contextlib.contextmanager
def _plain_errors(out: str) -> Iterator[None]:
  """Frees what a user can mend of the words of runners and workers."""
  # It would log what is raised here all the same.
  log = logging.getLogger("apache_beam.runners.common")
  before = log.level
  log.setLevel(logging.CRITICAL)
  try:
    yield
  except Exception as error:
    if of_the_disk(error):
      raise UserError(
        f"no space left on the disk of {out} or of temporary files; the same "
        "command goes on"
      ) from error
    raise
  finally:
    log.setLevel(before)


def _options(flags: Sequence[str]) -> Any:
  """Beam's options; it would drop a flag that it does not know."""
  from apache_beam.options.pipeline_options import PipelineOptions

  said = io.StringIO()
  try:
    with silence(), contextlib.redirect_stderr(said):
      options = PipelineOptions([_QUIET, *flags])
      known = options.get_all_options()
  except SystemExit as error:
    text = said.getvalue().rpartition("error: ")[2].strip()
    raise UserError(text or "Apache Beam refuses its flags") from error
  for before, flag in itertools.pairwise(["", *flags]):
    if not flag.startswith("--") and (
      "=" in before or not before.startswith("--")
    ):
      raise UserError(f"unknown argument {flag!r}; --help lists ours")
    name = flag.partition("=")[0]
    if name.startswith("--") and name[2:].removeprefix("no_") not in known:
      ours = ("short_px", "fps", "crf", "min_seconds", "num_shards", "captions")
      near = nearest(name[2:], (*known, *ours)).partition(";")[0]
      raise UserError(f"unknown argument {name!r}{near}; --help lists ours")
  return options


def _num_shards(job: Job, source: Source) -> int:
  """The number of shards that is asked for, that is there, or that fits."""
  found = {
    int(match.group(1))
    for path in Path(job.out).iterdir()
    if (match := _SHARD.fullmatch(path.name))
  }
  total = job.num_shards
  if not total:
    total = min(found, default=max(1, round(len(source) / PER_SHARD)))
  if found - {total}:
    raise UserError(
      f"{job.out} holds shards of {min(found - {total})}, not of {total}: give "
      f"--num_shards={min(found)} or another folder"
    )
  return total


def _finish(
  job: Job, tasks: Sequence[prepare.Task], source: Source, written: int
) -> dict[str, Any]:
  """Writes attribution, report and, last, the description."""
  out = Path(job.out)
  abouts = [
    shards.read_json(out / f"{shards.shard_stem(task.number, task.total)}.json")
    for task in tasks
  ]
  report = {
    "shards": len(tasks),
    "shards_written_now": written,
    **_report(abouts),
  }
  _write(out / shards.REPORT, report)
  counts = [len(about["clips"]) for about in abouts]
  if not sum(counts):
    raise UserError(
      f"none of {report['items']} items can be used ({report['dropped']}); "
      f"{out / shards.REPORT} has their names"
    )
  text = source.attribution()
  (out / ATTRIBUTION).write_text(text, encoding="utf-8")
  sizes = [
    [task.plan, count] for task, count in zip(tasks, counts, strict=True)
  ]
  _write(
    out / shards.DESCRIPTION,
    {
      "format": shards.FORMAT,
      "counts": counts,
      "fields": ["caption", "media", "name", "still"]
      + (["mask", "text"] if job.text else []),
      "text": job.text,
      "fingerprint": digest([json.dumps(sizes), text]),
    },
  )
  return report


def _report(abouts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Counts, reasons, durations, sizes and rates."""
  facts = [f for about in abouts for f in about["facts"]]
  videos = [f for f in facts if isinstance(f, list)]
  dropped = [drop for about in abouts for drop in about["dropped"]]
  seconds = sorted(f[0] for f in videos)
  return {
    "items": len(facts) + len(dropped),
    "videos": len(videos),
    "images": len(facts) - len(videos),
    "dropped": dict(Counter(d[1] for d in dropped).most_common()),
    "bytes": sum(f[-1] if isinstance(f, list) else f for f in facts),
    "seconds": {
      "total": round(sum(seconds), 3),
      "shortest": seconds[0] if seconds else None,
      "median": seconds[len(seconds) // 2] if seconds else None,
      "longest": seconds[-1] if seconds else None,
    },
    "fps": _histogram(f"{f[1]:.4g}" for f in videos),
    "sizes": _histogram(f"{f[2]}x{f[3]}" for f in videos),
    "codecs": _histogram(f[4] for f in videos),
    "dropped_items": [
      dict(zip(("name", "reason", "detail"), drop, strict=True))
      for drop in sorted(dropped)
    ],
  }


def _histogram(values: Any) -> dict[str, int]:
  return dict(Counter(values).most_common())


def _write(path: Path, value: Any) -> None:
  temporary = path.with_name(f".{path.name}.tmp")
  temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
  temporary.replace(path)
