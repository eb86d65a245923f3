# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and never over another one."""

import contextlib
import itertools
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
  """Yields a temporary path that becomes `path` if the block succeeds.

  The file appears whole or not at all, and never replaces another one.

  Raises:
    UserError: the file exists, or its folder cannot be written to.
  """
  path = Path(path)
  check_free(path)
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
  try:
    _check_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.touch(exist_ok=False)
    yield temporary
    _publish(temporary, path)
  except FileExistsError as e:
    raise UserError(f"{e.filename2 or e.filename} exists already") from e
  except OSError as e:
    raise UserError(f"cannot write {path}: {e.strerror or e}") from e
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes a new file of JSON. Raises UserError as `new_file`."""
  with new_file(path) as temporary:
    text = json.dumps(value, indent=2)
    temporary.write_text(text + "\n", encoding="utf-8")


def check_free(path: str | os.PathLike[str]) -> None:
  """Raises UserError if something lies at the path: nothing is overwritten."""
  if os.path.lexists(path):
    raise UserError(f"{path} exists already and is not overwritten")


def _check_folder(path: Path) -> None:
  """Raises UserError if a file lies where a folder of the path would."""
  for folder in path.parents:
    if folder.exists() and not folder.is_dir():
      raise UserError(f"cannot write {path}: {folder} is a file, no folder")


def _publish(temporary: Path, path: Path) -> None:
  """Gives the finished file its name, unless another file took it."""
  try:
    os.link(temporary, path)
  except FileExistsError:
    raise
  except OSError:
    # No hard links on this file system: reserve the name, then move onto it.
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.replace(temporary, path)


def claim(
  folder: str | os.PathLike[str], made_with: Mapping[str, Any], what: str
) -> None:
  """Notes in a folder, as made_with.json, what all that it keeps is made with.

  Several processes may do so at once.

  Args:
    folder: where it is kept; made if it is not there.
    made_with: all that it depends on, as JSON can hold it.
    what: it, as a message says it.

  Raises:
    UserError: what lies there is made with something else.
  """
  note = Path(folder) / "made_with.json"
  if not note.is_file():
    try:
      write_json(note, dict(made_with))
      return
    except UserError:
      if not note.is_file():
        raise  # It was no other process that came first.
  try:
    saved = dict(json.loads(note.read_text()))
  except (OSError, ValueError, TypeError) as error:
    raise UserError(f"{note} cannot be read: {error}") from error
  wanted = json.loads(json.dumps(made_with))  # Tuples as lists.
  for name in wanted | saved:
    old, new = saved.get(name), wanted.get(name)
    if old != new:
      raise UserError(f"{what} are made with {name}={old!r}, not {new!r}")


def free_path(out_dir: str | os.PathLike[str], stem: str) -> Path:
  """Returns `out_dir/stem`, or `-1`, `-2`, ... appended, that no file uses.

  A file uses a stem if its name is the stem, or the stem and a dot and more.
  Put suffixes on with `f"{path}.mp4"`: stems may hold dots.
  """
  out_dir = Path(out_dir)
  names = os.listdir(out_dir) if out_dir.is_dir() else []
  for i in itertools.count():
    candidate = f"{stem}-{i}" if i else stem
    if not any(n == candidate or n.startswith(candidate + ".") for n in names):
      return out_dir / candidate
  raise AssertionError("unreachable: count() never ends")


def publish_together(
  files: Sequence[Path],
  out_dir: str | os.PathLike[str],
  stem: str,
  named: Mapping[Path, Path] | None = None,
) -> list[Path]:
  """Gives finished files the names `free_path(out_dir, stem)` + their suffixes.

  All of them or none, and each under a name that no other program took.

  Args:
    files: with different suffixes (all that follows the first dot), on the
      file system of `out_dir`.
    out_dir: where they are to lie.
    stem: what their names begin with.
    named: files that go elsewhere and can have that one name only.

  Raises:
    UserError: the folder cannot be written to, or such a name is taken.
  """
  named = named or {}
  while True:
    base, done = free_path(out_dir, stem), []
    try:
      for file in files:
        target = named.get(file, Path(f"{base}{''.join(file.suffixes)}"))
        target.parent.mkdir(parents=True, exist_ok=True)
        if file in named:
          check_free(target)
        _publish(file, target)
        done.append(target)
      return done
    except BaseException as error:
      for target in done:
        target.unlink(missing_ok=True)
      if isinstance(error, FileExistsError):
        continue  # Another program took the name since it was found free.
      if isinstance(error, OSError):
        raise UserError(f"cannot write {base}: {error.strerror}") from error
      raise
