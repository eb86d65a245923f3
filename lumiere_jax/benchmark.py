# SPDX-License-Identifier: Apache-2.0
"""How fast it is:
python -m lumiere_jax.benchmark --config=... --what=train --out=bench.json

times the network (--what=forward), a training step (train), sampling of whole
clips (sample) or reading of data (loader) on random inputs: compilation apart,
then repeated runs, each until its result is there. The JSON has the rates, the
memory, operations counted by hand and read from the program, model FLOPs
utilization, every block of the network and the machine. --compare=A.json,B.json
puts two results side by side and exits with status 1 where B is worse.
"""

import contextlib
import dataclasses
import functools
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from lumiere_jax import cli, media
from lumiere_jax.benchmarking import bench, subject
from lumiere_jax.benchmarking.clock import Timing, process_began
from lumiere_jax.benchmarking.compare import (
  as_table,
  check_judged,
  compare,
  read_result,
)
from lumiere_jax.benchmarking.machine import environment, unsteady
from lumiere_jax.benchmarking.plot import draw_roofline
from lumiere_jax.benchmarking.report import as_text
from lumiere_jax.config import Config, differences, to_dict
from lumiere_jax.data import throughput
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.linked import weights_config
from lumiere_jax.plotting import check_matplotlib

WHATS = (*subject.WHATS, "loader")
_WORSE = 1  # The status of a comparison whose second result is worse.


def main(argv: Sequence[str], began: float | None = None) -> None:
  """The program, given its arguments.

  Args:
    argv: what follows the program's name.
    began: `time.perf_counter()` of when the process began; None is now.
  """
  began = time.perf_counter() if began is None else began
  args, overrides = cli.parse(_parser(), argv)
  _check(args)
  if args.compare:
    _compare(args)
    return
  cfg = _config(args.config, args.what, overrides)
  told = {
    "argv": list(argv),
    "overrides": _resolved(args.config, args.what, cfg) if overrides else {},
  }
  file = media.new_file(args.out) if args.out else contextlib.nullcontext()
  with file as out:
    if args.what == "loader":
      made = not args.config and "data.data_dir" not in overrides
      clips, px = args.clips or 64, args.source_px if made else 0
      result = _loader(cfg, clips, px, args.repeats)
    else:
      result = _program(cfg, args, began)
    print(as_text(result), flush=True)
    if varied := unsteady(result.get("utilization", {})):
      print(f"warning: {varied}", file=sys.stderr)
    if args.plot:
      with media.new_file(args.plot) as path:
        draw_roofline(result, path)
    if out:
      text = json.dumps({**told, **result}, indent=2)
      out.write_text(text + "\n", encoding="utf-8")


def _check(args: Any) -> None:
  """Raises UserError for flags that cannot be meant so."""
  for name in ("out", "compare", "plot"):
    if getattr(args, name) == "":
      raise UserError(f"--{name} is empty; it must name a file")
  for name in ("tolerance", "count_tolerance"):
    if (value := getattr(args, name)) < 0:
      raise UserError(f"--{name}={value} must be >= 0")
  if args.compare:
    return
  if args.what not in WHATS:
    raise UserError(f"--what={args.what!r}{nearest(args.what, WHATS)}")
  if not args.config and args.what != "loader":
    raise UserError("--config is needed: a configs/*.py file")
  for name, least in (("repeats", 1), ("clips", 0), ("source_px", 16)):
    if (value := getattr(args, name)) < least:
      raise UserError(f"--{name}={value} must be >= {least}")
  if args.plot:
    _check_plot(args)


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="lumiere_jax.benchmark", description=__doc__)
  add = parser.add_argument
  add("--config", help="a configs/*.py file")
  add("--what", default="forward", help=" or ".join(WHATS))
  add(
    "--clips",
    type=int,
    default=0,
    help="at once, 1 if not given; of the loader in all, 64 if not given",
  )
  add("--repeats", type=int, default=10, help="runs that are timed")
  add(
    "--no_blocks",
    action="store_true",
    help="do not time each block of the network",
  )
  add(
    "--count_only",
    action="store_true",
    help="count what the program computes and is given; run nothing",
  )
  add("--plot", help="PNG to draw, the roofline of all blocks")
  add(
    "--source_px", type=int, default=128, help="height of the loader's videos"
  )
  add("--out", help="JSON file to write")
  add("--compare", help="two results, A.json,B.json, instead of a run")
  add(
    "--tolerance",
    type=cli.number,
    default=0.1,
    help="by which share B's times may be longer",
  )
  add(
    "--count_tolerance",
    type=cli.number,
    default=0.001,
    help="by which share B's counts may be larger",
  )
  return parser


def _compare(args: Any) -> None:
  """Prints the table.

  Raises:
    UserError: there are not two results, they are of different things, or
      there is nothing that can be judged.
    SystemExit: the second is worse.
  """
  paths = args.compare.split(",")
  if len(paths) != 2:
    raise UserError(f"--compare={args.compare!r} must be two files: A,B")
  both = tuple(map(read_result, paths))
  rows = compare(*both, args.tolerance, args.count_tolerance)
  print(as_table(rows), flush=True)
  check_judged(rows, *both)
  if any(row.worse for row in rows):
    sys.exit(_WORSE)


def _check_plot(args: Any) -> None:
  if args.what == "loader" or args.count_only or args.no_blocks:
    raise UserError("--plot draws the blocks of a network that are timed")
  check_matplotlib()
  media.check_free(args.plot)


def _config(
  path: str | None, what: str, overrides: Mapping[str, str]
) -> Config:
  """The configuration: of weights, if the file names some, that of them."""
  if path is None:
    values = {"data": {"size_px": 128}, "train": {"batch_size": 2}}
    return cli.resolve(values, overrides)
  if what == "train":
    return cli.resolve(cli.read_recipe(path), overrides)
  file = cli.read_config(path)
  name = file.get("weights")
  return cli.resolve(weights_config(name, file) if name else file, overrides)


def _resolved(path: str | None, what: str, cfg: Config) -> dict[str, Any]:
  """The fields that are not as the file has them, by their dotted names."""
  found = differences(to_dict(_config(path, what, {})), to_dict(cfg))
  return {name: value for name, _, value in found}


def _program(cfg: Config, args: Any, began: float) -> dict[str, Any]:
  if args.what == "train" and args.clips:
    raise UserError("--clips is not of training; set --config.train.batch_size")
  # Of all steps of a run, most stay on the processor's own memory.
  cli.keep_freed_memory()
  found = subject.find_subject(args.what, cfg, args.clips)
  if args.count_only:
    return {**bench.head(found), "counts": bench.count(found, found.lower())}
  with _cold_cache():
    return bench.run(
      found, args.repeats, blocks=not args.no_blocks, began=began
    )


@contextlib.contextmanager
def _cold_cache() -> Iterator[None]:
  """JAX's persistent cache in a folder of its own, so that it is cold."""
  settings = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
  }
  with tempfile.TemporaryDirectory() as folder:
    settings["jax_compilation_cache_dir"] = folder
    before = {name: getattr(jax.config, name) for name in settings}
    try:
      _set_cache(settings)
      yield
    finally:
      _set_cache(before)


def _set_cache(settings: Mapping[str, Any]) -> None:
  from jax.experimental.compilation_cache import compilation_cache

  for name, value in settings.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()  # It keeps to the folder that it began with.


def _loader(
  cfg: Config, clips: int, source_px: int, repeats: int
) -> dict[str, Any]:
  """Times the loader; on videos that are made here if it is told a height.

  In so many parts as there are to be repeats: what follows is always other
  clips.
  """
  data, source = cfg.data, None
  with tempfile.TemporaryDirectory() as folder:
    if source_px:
      source = throughput.make_videos(Path(folder), source_px)
      data = dataclasses.replace(data, kind="folder", data_dir=folder)
    # As training reads them, but several of them.
    batch_size = min(cfg.train.batch_size, -(-clips // 8))
    found = throughput.measure(data, clips, batch_size, repeats)
  timing = Timing(found.pop("warm_up_seconds"), tuple(found.pop("rounds")))
  return {
    "config": cfg.name,
    "what": "loader",
    "clips": found.pop("clips"),
    "frames": data.train_size[0],
    "size_px": data.train_size[1],
    "dtype": "uint8",
    "environment": environment(),
    "time": timing.as_dict(),  # Of a clip.
    "throughput": found,
    "source": source,
  }


if __name__ == "__main__":
  cli.run(functools.partial(main, began=process_began()))
