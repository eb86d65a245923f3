# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that ends a program, whatever the program is at.

Python's own handler raises KeyboardInterrupt in whatever Python code the main
thread runs. Two things keep that from ending a program:

- The exception is dropped. Garbage collection calls Python code (JAX registers
  a callback), so do `__del__`, weak references and C, and what is raised there
  is reported as ignored. An `except:` of a library does the same.
- No Python code runs. `np.asarray` of an array that XLA still computes, or a
  compilation, returns when it is done.

So the handler here raises an exception that notices its own loss, and a thread
watches: it sends a lost Ctrl-C again, and ends the process if that is lost
again and again, or if the main thread does not get to the handler at all.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

# Seconds in which the main thread has to get to a handler of SIGINT.
GRACE = 5.0
_AGAIN = 0.1  # Seconds until a lost Ctrl-C is sent again.

# What the thread reads from the pipe, apart from the numbers of signals.
_ANSWERED, _LOST = bytes([0]), bytes([255])
_pipe: int | None = None  # Where it is written.


class _Interrupt(KeyboardInterrupt):
  """A Ctrl-C that comes again if it is dropped before it ends the program."""

  def __del__(self) -> None:
    _say(_LOST)


def listen(end: Callable[[], None]) -> None:
  """Makes Ctrl-C raise KeyboardInterrupt until one gets through.

  A process that was started deaf to Ctrl-C, as by a shell in the background,
  stays so. To be called once, in the main thread.

  Args:
    end: ends this process from another thread, without context managers. It is
      called if Ctrl-C is not answered, or lost, for `GRACE` seconds; where
      another handler than this module's is set, only if Ctrl-C came twice.
  """
  global _pipe
  if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    return
  to_read, _pipe = os.pipe()
  os.set_blocking(_pipe, False)
  signal.set_wakeup_fd(_pipe)
  os.register_at_fork(after_in_child=_forget)
  watch = threading.Thread(target=_watch, args=(to_read, end), daemon=True)
  watch.start()
  before = sys.unraisablehook
  sys.unraisablehook = lambda lost: (
    None if isinstance(lost.exc_value, _Interrupt) else before(lost)
  )
  signal.signal(signal.SIGINT, _raise)


def answered() -> None:
  """To be called by other handlers of SIGINT: the main thread gets there."""
  _say(_ANSWERED)


def surrender() -> None:
  """From here on Ctrl-C ends the process at once, even where no Python runs.

  Only the main thread can say so.
  """
  in_main = threading.current_thread() is threading.main_thread()
  if in_main and signal.getsignal(signal.SIGINT) is _raise:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
  answered()
  raise _Interrupt


def _say(what: bytes) -> None:
  if _pipe is not None:
    os.write(_pipe, what)


def _forget() -> None:
  """In a fork: the pipe's thread is the parent's."""
  global _pipe
  _pipe = None
  signal.set_wakeup_fd(-1)


def _watch(pipe: int, end: Callable[[], None]) -> None:
  """Reads what C's handler, the handlers in Python and lost exceptions say."""
  main = threading.main_thread().ident
  came, deadline = 0, None  # Since the last Ctrl-C that was answered.
  lost = None  # Since when.
  while True:
    left = None if deadline is None else max(deadline - time.monotonic(), 0)
    if not select.select([pipe], [], [], left)[0]:
      return end()
    said = os.read(pipe, 1)
    if said == _ANSWERED:
      came, deadline = 0, None
    elif said == _LOST:
      lost = lost or time.monotonic()
      if time.monotonic() - lost > GRACE:
        return end()
      time.sleep(_AGAIN)  # By then the main thread may be out of there.
      signal.pthread_kill(main, signal.SIGINT)
    elif said[0] == signal.SIGINT:
      came += 1
      ours = signal.getsignal(signal.SIGINT) is _raise
      if deadline is None and (ours or came > 1):
        deadline = time.monotonic() + GRACE
