# SPDX-License-Identifier: Apache-2.0
"""What all command lines share: configs, caches and how errors are shown."""

import argparse
import contextlib
import ctypes
import faulthandler
import functools
import importlib.util
import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lumiere_jax import interrupt
from lumiere_jax.config import Config, from_dict, override, to_dict
from lumiere_jax.errors import (
  INTERRUPTED,
  MISTAKE,
  UNREAD,
  UserError,
  of_the_disk,
)

Group = TypeVar("Group")


class Parser(argparse.ArgumentParser):
  """An argument parser whose errors are one line, as all others."""

  def error(self, message: str) -> None:
    raise UserError(message)


def run(main: Callable[[Sequence[str]], None]) -> None:
  """Runs a program; a user's mistake becomes one line and an exit status.

  They are listed in `lumiere_jax.errors`.
  """
  from absl import flags

  # Grain's worker processes read absl flags, which nothing here defines.
  flags.FLAGS.mark_as_parsed()
  faulthandler.enable()  # Where native code crashes, all threads tell where.
  threading.excepthook = _tell_of_thread
  warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
  try:
    interrupt.listen(functools.partial(_leave, INTERRUPTED, "interrupted"))
    main(sys.argv[1:])
    sys.stdout.flush()  # What is closed is found here, not at the end.
  except UserError as error:
    _leave(error.status, f"error: {error}")
  except KeyboardInterrupt:
    _leave(INTERRUPTED, "interrupted")
  except BrokenPipeError:
    _leave(UNREAD, "what this program prints is not read any more")
  except Exception as error:
    if of_the_disk(error):
      _leave(MISTAKE, f"error: {error}")
    _leave(1, traceback.format_exc().rstrip())
  finally:
    interrupt.surrender()


def _tell_of_thread(args: threading.ExceptHookArgs) -> None:
  """What ended a thread of a library; of a full disk the program will tell."""
  if isinstance(args.exc_value, OSError):
    print(f"warning: {args.exc_value}", file=sys.stderr)
  else:
    threading.__excepthook__(args)


def _leave(status: int, said: str) -> None:
  """Says why and ends this process at once, with whatever its threads are at.

  A regular end would wait for what XLA still computes, or crash below it, and
  for the other processes of a run, which wait for this one; and libraries would
  write what they still hold, to a disk that may be full. What has to be
  finished or removed is so by now: context managers see to that.
  """
  interrupt.surrender()
  for child in multiprocessing.active_children():
    child.terminate()
  with contextlib.suppress(OSError, ValueError):  # Closed, or a closed pipe.
    print(said, file=sys.stderr)
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):
      stream.flush()
  os._exit(status)


def join_processes() -> None:
  """Joins the other processes of a run, if its launcher started several.

  It says so by JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and
  JAX_PROCESS_ID, or by LUMIERE_CLUSTER=auto where JAX itself knows them (Slurm,
  TPU VMs, GKE, Open MPI). To be called before any array is made.

  Raises:
    UserError: one of the three is missing or no number.
  """
  import jax

  names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
  address, *numbers = (os.environ.get(name) for name in names)
  cluster = os.environ.get("LUMIERE_CLUSTER", "")
  if cluster not in ("", "auto"):
    raise UserError(f"LUMIERE_CLUSTER={cluster!r} must be auto, or not be set")
  if not cluster and not any(numbers):
    return
  # Of CPUs, to try things out on one machine.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  if cluster:
    jax.distributed.initialize()
  else:
    told = ", ".join(f"{n}={os.environ.get(n, '')}" for n in names)
    if not address or not all(n and n.isdigit() for n in numbers):
      raise UserError(f"all three must be set, two to numbers: {told}")
    count, index = map(int, numbers)
    if not index < count:
      raise UserError(f"JAX_PROCESS_ID must be in 0..{count - 1}: {told}")
    jax.distributed.initialize(address, count, index)
  # It now only notes a SIGTERM, for a vote of its own: until training listens,
  # the signal shall end the process.
  signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


def parse(
  parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, dict[str, str]]:
  """Splits a command line into its flags and `--config.FIELD=VALUE`s.

  Returns:
    The flags, and the text of each overridden field by its dotted name.

  Raises:
    UserError: an unknown flag, or one without value.
  """
  args, rest = parser.parse_known_args(argv)
  overrides = {}
  rest = list(rest)
  while rest:
    flag = rest.pop(0)
    name, equals, text = flag.partition("=")
    if not name.startswith("--config."):
      raise UserError(f"unknown argument {flag!r}; --help lists them")
    if not equals:
      if not rest:
        raise UserError(f"argument {name} needs a value")
      text = rest.pop(0)
    overrides[name.removeprefix("--config.")] = text
  if "weights" in overrides:  # They bring the rest of their config along.
    raise UserError(
      "--config.weights cannot be set; give --weights=DIR where a program has "
      "that, or a --config that names them"
    )
  return args, overrides


def as_overrides(fields: Mapping[str, Any]) -> dict[str, str]:
  """The text of each field that a flag of its own has set: not None."""
  return {k: repr(v) for k, v in fields.items() if v is not None}


def number(text: str) -> float:
  """A number of the command line, for argparse: neither nan nor infinite."""
  value = float(text)
  if not math.isfinite(value):
    raise ValueError
  return value


def check_seed(seed: int) -> int:
  """Returns the seed.

  Raises:
    UserError: it is not in 0..2^32-1.
  """
  if not 0 <= seed < 2**32:
    raise UserError(f"--seed={seed} must be in 0..{2**32 - 1}")
  return seed


@contextlib.contextmanager
def output_folder(flag: str, name: str) -> Iterator[Path]:
  """Makes the folder that a flag names, before the work that is to fill it.

  If the work is not done, the folders that were made are removed again, as far
  as they are empty.

  Raises:
    UserError: it cannot be made or written to.
  """
  if not name:
    raise UserError(f"{flag} is empty; it must name a folder")
  folders = [Path(name), *Path(name).parents]
  made = [folder for folder in folders if not folder.exists()]
  try:
    Path(name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=name):
      pass
  except OSError as error:
    raise UserError(f"cannot write to {flag}={name!r}: {error}") from error
  try:
    yield Path(name)
  except BaseException:
    with contextlib.suppress(OSError):
      for folder in made:
        folder.rmdir()  # If there is nothing in it.
    raise


def read_config(path: str) -> dict[str, Any]:
  """Returns what `get_config()` of a config file gives, as plain dicts.

  Raises:
    UserError: no such file, no `get_config`, or an error inside it.
  """
  if not Path(path).is_file():
    near = ", ".join(_config_files(Path(path).parent))
    choices = f"; choices: {near}" if near else ""
    raise UserError(f"no config file {path!r}{choices}")
  spec = importlib.util.spec_from_file_location("lumiere_jax_config", path)
  if spec is None:
    raise UserError(f"config file {path!r} is not a Python file (.py)")
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
    return module.get_config().to_dict()
  except Exception as error:
    raise UserError(
      f"config file {path!r}: {type(error).__name__}: {error}"
    ) from error


def _config_files(folder: Path) -> list[str]:
  """Files of a folder that define `get_config`; without any, of configs/."""
  for place in (folder, Path("configs")):
    found = [
      str(path)
      for path in sorted(place.glob("*.py"))
      if path.is_file()
      and "def get_config(" in path.read_text("utf-8", errors="replace")
    ]
    if found:
      return found
  return []


def read_recipe(path: str) -> dict[str, Any]:
  """`read_config` of a configuration to train by.

  Raises:
    UserError: also if it names weights instead of a network.
  """
  values = read_config(path)
  if values.get("weights"):
    raise UserError(
      f"{path} says how to sample with the weights {values['weights']!r}, not "
      "how to train; what trains from weights names them as train.init_from"
    )
  return values


def resolve(
  values: Mapping[str, Any],
  overrides: Mapping[str, str],
  kind: type[Group] = Config,
) -> Group:
  """Builds the configuration of nested values and overrides given as text.

  Args:
    values: fields by name.
    overrides: by dotted name.
    kind: the configuration of a model, or another frozen dataclass.

  Raises:
    UserError: an unknown field, an ill-typed value, or a failed check.
  """
  # Through its class and back, so that fields with defaults can be overridden.
  values = to_dict(from_dict(values, kind))
  for path, text in overrides.items():
    values = override(values, path, text)
  return from_dict(values, kind)


def cache_folder(name: str) -> Path:
  """A folder of this name in the user's cache folder; it may not exist."""
  home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
  return Path(home) / "lumiere_jax" / name


def enable_compilation_cache() -> None:
  """Keeps compiled programs in the user's cache folder between runs.

  JAX's own JAX_COMPILATION_CACHE_DIR takes precedence.
  """
  import jax

  if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    jax.config.update("jax_compilation_cache_dir", str(cache_folder("xla")))
  # Small programs take most of the start's time together: keep them all.
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def keep_freed_memory() -> bool:
  """Makes this process keep freed memory for its own next allocation.

  A train step on a CPU allocates gigabytes and frees them; by default glibc
  hands them back to the kernel and the next step spends a quarter of its time
  on getting them again, zeroed, page by page.

  Returns:
    Whether the C library has these settings (glibc's `mallopt`).
  """
  mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
  if mallopt is None:
    return False
  trim_threshold, mmap_max, arena_max = -1, -4, -8  # Of glibc's malloc.h.
  settings = {trim_threshold: -1, mmap_max: 0, arena_max: 1}
  return all([mallopt(name, value) for name, value in settings.items()])
