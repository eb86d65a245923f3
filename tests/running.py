# SPDX-License-Identifier: Apache-2.0
"""Processes that tests start, and of which none is left when a test fails."""

import contextlib
import os
import signal
import subprocess


@contextlib.contextmanager
def running(command, **options):
  """Yields a process; kills it and those that it started afterwards.

  Args:
    command: program and arguments.
    options: of `subprocess.Popen`.
  """
  with subprocess.Popen(command, start_new_session=True, **options) as process:
    try:
      yield process
    finally:
      with contextlib.suppress(ProcessLookupError):  # All have ended.
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def launched(command, **options):
  """The same of a launcher, whose processes are in groups of their own."""
  with running(command, **options) as process:
    try:
      yield process
    finally:
      process.terminate()  # It passes that on.
      process.wait(30)
