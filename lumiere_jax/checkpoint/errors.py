# SPDX-License-Identifier: Apache-2.0
"""Errors of orbax and TensorStore: told once, in one line."""

import logging
import re
import sys

# Where errors of TensorStore come from, and what they end with; the reason
# stands between.
_INTERNALS = re.compile(
  r" See full TensorStore details.*| \[\w+(\[\d+\])?=.*"
  r'| in OCDBT database at local file "[^"]*"|: Failed writing: "[^"]*"'
)


def first_line(error: Exception) -> str:
  """What the first cause of an error says, without TensorStore's internals."""
  while error.__cause__ is not None:
    error = error.__cause__
  text = str(error).strip() or type(error).__name__
  return _INTERNALS.sub("", text.splitlines()[0])[:300]


def silence() -> None:
  """Drops what is told beside an error that is raised; others keep theirs.

  These are what orbax tells absl's logger below an error or with a traceback,
  and the tracebacks of arrays that were still being read or written when the
  first of them failed.
  """
  logger = logging.getLogger("absl")
  if not any(isinstance(f, _NotFromOrbax) for f in logger.filters):
    logger.addFilter(_NotFromOrbax())
  if not isinstance(sys.unraisablehook, _NotFromOthers):
    sys.unraisablehook = _NotFromOthers(sys.unraisablehook)


class _NotFromOrbax(logging.Filter):
  def filter(self, record: logging.LogRecord) -> bool:
    loud = record.levelno >= logging.ERROR and not record.exc_info
    return loud or "orbax" not in record.pathname


class _NotFromOthers:
  def __init__(self, before):
    self._before = before

  def __call__(self, unraisable) -> None:
    source = unraisable.object
    written = source is None and (
      str(unraisable.exc_value) == "Event loop is closed"
    )
    code = getattr(source, "cr_code", None)
    if not (written or (code and "orbax" in code.co_filename)):
      self._before(unraisable)
