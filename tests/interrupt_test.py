# SPDX-License-Identifier: Apache-2.0
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.running import running

pytestmark = pytest.mark.usefixtures("interruptible")

# Programs say "here" where Ctrl-C is to come. `native` is as code that is not
# Python's: the signal comes in another thread, and this one does not notice.
PROGRAM = """
import atexit, ctypes, gc, os, signal, sys, threading, time, weakref
from lumiere_jax import cli, interrupt

def here(*_):
  print("here", flush=True)
  time.sleep(60)

def native(seconds):
  interrupt.GRACE = 0.5
  later = threading.Thread(target=lambda: (time.sleep(0.3), here()))
  later.daemon = True
  later.start()
  signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGINT}})
  time.sleep(seconds)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, {{signal.SIGINT}})

def main(argv):
{body}

if __name__ == "__main__":
  cli.run(main)
"""


def program(tmp_path, body):
  """A process that runs this as its `main`."""
  path = tmp_path / "program.py"
  indented = "".join(f"  {line}\n" for line in body.strip().splitlines())
  path.write_text(PROGRAM.format(body=indented))
  return python(path)


def python(*args, path=()):
  return running(
    [sys.executable, *map(str, args)],
    env={**os.environ, "PYTHONPATH": ":".join([*map(str, path), os.getcwd()])},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def interrupted(process, times=1):
  """Presses Ctrl-C where the process says; its status and what else it says."""
  assert process.stdout.readline() == "here\n"
  for _ in range(times):
    time.sleep(0.2)  # It goes on from there; two at the same time are one.
    process.send_signal(signal.SIGINT)
  out, errors = process.communicate(timeout=30)
  return process.returncode, out, errors


PLACES = {
  # At its begin and at its end: a Ctrl-C that is sent again is lost again.
  "garbage collection": """
gc.callbacks.append(here)
gc.collect()
gc.callbacks.remove(here)
""",
  "__del__": """
type("Dying", (), {"__del__": here})()
""",
  "a weak reference": """
kind = type("Dying", (), {})
dying = kind()
reference = weakref.ref(dying, here)
del dying
""",
  "a callback of C": """
ctypes.CFUNCTYPE(None)(here)()
""",
  "a bare except": """
try:
  here()
except:
  pass
""",
  "no callback": "",
}


@pytest.mark.parametrize("place", PLACES)
def test_ctrl_c_ends_a_program_wherever_it_comes(tmp_path, place):
  """Most of these drop what is raised in them; context managers still end."""
  body = PLACES[place] + "here()"
  body = "\n".join(f"  {line}" for line in body.splitlines())
  made = tmp_path / "made"
  body = f"with cli.output_folder('--out', {str(made)!r}):\n{body}"
  with program(tmp_path, body) as process:
    status, _, errors = interrupted(process)
  assert (status, errors) == (130, "interrupted\n")
  assert not made.exists()


def test_ctrl_c_ends_a_program_in_which_no_python_runs(tmp_path):
  with program(tmp_path, "native(60)") as process:
    assert interrupted(process) == (130, "", "interrupted\n")


def test_ctrl_c_ends_a_program_that_loses_it_for_ever(tmp_path):
  body = """
interrupt.GRACE = 0.5
while True:
  try:
    here()
  except:
    pass
"""
  with program(tmp_path, body) as process:
    status, _, errors = interrupted(process)
  assert (status, errors) == (130, "interrupted\n")


NOTING = """
came = []
def note(*_):
  interrupt.answered()
  came.append("noted")
signal.signal(signal.SIGINT, note)
"""


@pytest.mark.parametrize(
  ("times", "seconds", "ended"),
  [(1, 2, (0, "noted\n", "")), (2, 60, (130, "", "interrupted\n"))],
)
def test_a_handler_of_its_own_has_time_until_the_second(
  tmp_path, times, seconds, ended
):
  """As training's, which waits for a step."""
  body = NOTING + f"native({seconds})\nprint(*came)"
  with program(tmp_path, body) as process:
    assert interrupted(process, times) == ended


def test_what_was_answered_is_over(tmp_path):
  """Python takes its time after a handler that then is this one again."""
  body = """
interrupt.GRACE = 0.5
before = signal.getsignal(signal.SIGINT)
def note(*_):
  interrupt.answered()
  signal.signal(signal.SIGINT, before)
signal.signal(signal.SIGINT, note)
print("here", flush=True)
while signal.getsignal(signal.SIGINT) is note:
  pass
time.sleep(1.5)
print("saved")
"""
  with program(tmp_path, body) as process:
    assert interrupted(process) == (0, "saved\n", "")


def test_a_ctrl_c_of_a_fork_is_its_own(tmp_path):
  body = """
interrupt.GRACE = 0.5
child = os.fork()
if not child:
  try:
    native(2)
  except KeyboardInterrupt:
    os._exit(7)
print(child, flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
  with program(tmp_path, body) as process:
    lines = sorted(process.stdout.readline() for _ in range(2))
    assert lines[1] == "here\n"
    os.kill(int(lines[0]), signal.SIGINT)
    assert process.communicate(timeout=30) == ("7\n", "")
  assert process.returncode == 0


def test_after_its_work_a_program_ends_at_once(tmp_path):
  with program(tmp_path, "atexit.register(here)") as process:
    assert interrupted(process) == (-signal.SIGINT, "", "")


def test_who_is_deaf_to_ctrl_c_stays_so(tmp_path):
  """A shell starts programs in the background that way."""
  body = "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with program(tmp_path, body) as process:
      assert process.communicate(timeout=30) == ("True\n", "")
  finally:
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_a_program_imports(tmp_path):
  (tmp_path / "jax.py").write_text(
    "import gc, time\n"
    "def here(*_):\n"
    "  print('here', flush=True)\n"
    "  time.sleep(60)\n"
    "gc.callbacks.append(here)\n"
    "gc.collect()\n"
  )
  with python("-m", "lumiere_jax.train", path=[tmp_path]) as process:
    assert interrupted(process) == (-signal.SIGINT, "", "")


def test_an_import_into_another_program_changes_no_handler(tmp_path):
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "__init__.py").write_text("import lumiere_jax\n")
  (tmp_path / "other" / "__main__.py").write_text(
    "import signal\n"
    "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)\n"
  )
  with python("-m", "other", path=[tmp_path]) as process:
    assert process.communicate(timeout=30) == ("True\n", "")
