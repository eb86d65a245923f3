# SPDX-License-Identifier: Apache-2.0
"""Mistakes of the user, ends of a run, and the exit status of each."""

import difflib
import errno
from collections.abc import Iterable

# Exit statuses of programs, beside 0 and Python's 1 for what nobody foresaw.
MISTAKE = 2  # The same command would fail again.
DIVERGED = 3  # Likewise: training did not recover by itself.
HUNG = 124  # As of `timeout`: worth trying again.
INTERRUPTED = 130  # Ctrl-C.
UNREAD = 141  # As of a process that SIGPIPE ended: `| head` has seen enough.
PREEMPTED = 143  # As of a process that SIGTERM ended: saved, and to go on.

# What a full or locked disk makes of a write.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class UserError(ValueError):
  """A mistake a user can make; command lines print it as one line and exit.

  Attributes:
    status: with which they exit.
  """

  status = MISTAKE


def of_the_disk(error: BaseException | None) -> bool:
  """Whether a disk is full or locked."""
  if isinstance(error, OSError):
    return error.errno in _OF_THE_DISK
  return error is not None and "No space left" in str(error)


def nearest(name: str, choices: Iterable[str]) -> str:
  """Returns ' (did you mean X?) choices: ...', to end an error message with.

  Args:
    name: what the user wrote.
    choices: the valid names.
  """
  choices = sorted(choices)
  if not choices:
    return "; there are none"
  close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
  hint = f" (did you mean {close[0]!r}?)" if close else ""
  return f"{hint}; choices: {', '.join(choices)}"
