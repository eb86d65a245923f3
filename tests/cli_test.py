# SPDX-License-Identifier: Apache-2.0
import os
import platform
import signal
import subprocess
import sys
import time

import pytest

from lumiere_jax import cli
from lumiere_jax.errors import UserError
from tests.running import running

FAULTS = """
import sys, resource
import numpy as np
from lumiere_jax import cli

if sys.argv[1] == "keep":
  assert cli.keep_freed_memory()
np.ones(1 << 26, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
  np.ones(1 << 26, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
  done = subprocess.run(
    [sys.executable, "-c", FAULTS, mode],
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  return int(done.stdout)


def test_kept_memory_is_not_faulted_in_again():
  if platform.libc_ver()[0] != "glibc":  # No other library has the settings.
    assert not cli.keep_freed_memory()
    return
  assert faults("keep") * 10 < faults("default")


@pytest.mark.parametrize("error", [UserError, KeyboardInterrupt, RuntimeError])
def test_folders_made_for_nothing_are_removed_again(tmp_path, error):
  (tmp_path / "there").mkdir()
  with (
    pytest.raises(error),
    cli.output_folder("--out", str(tmp_path / "there" / "a" / "b")) as out,
  ):
    assert out.is_dir()
    raise error("no work is done")
  assert (tmp_path / "there").is_dir()
  assert not (tmp_path / "there" / "a").exists()


def test_folders_that_hold_something_stay(tmp_path):
  with (
    pytest.raises(UserError),
    cli.output_folder("--out", str(tmp_path / "a" / "b")) as out,
  ):
    (out / "clip.npy").write_bytes(b"1")
    raise UserError("only one was made")
  assert (tmp_path / "a" / "b" / "clip.npy").is_file()


WORKING = """
import multiprocessing, sys, time
import jax, jax.numpy as jnp, numpy as np
from lumiere_jax import cli, interrupt
from lumiere_jax.errors import UserError

def main(argv):
  x = jnp.ones((512, 512))
  step = lambda i, x: (x @ x) / 512
  run = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, step, x))
  run(x, 2).block_until_ready()
  context = multiprocessing.get_context("spawn")
  child = context.Process(target=time.sleep, args=(300,), daemon=True)
  child.start()
  x = run(x, 10**9)
  print(child.pid, flush=True)
  if argv[0] == "wait":
    x.block_until_ready()
  if argv[0] == "read":  # No Python runs there until it is done.
    interrupt.GRACE = 1
    np.asarray(x)
  raise {"mistake": UserError, "bug": TypeError, "disk": OSError}[argv[0]]("no")

if __name__ == "__main__":
  cli.run(main)
"""


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
  ("way", "status", "said"),
  [
    ("wait", 130, "interrupted"),
    ("read", 130, "interrupted"),
    ("mistake", 2, "error: no"),
    ("bug", 1, "TypeError: no"),
    ("disk", 1, "OSError: no"),
  ],
)
def test_a_program_leaves_at_once_while_devices_work(
  tmp_path, way, status, said
):
  """A regular end waits for them, or crashes."""
  path = tmp_path / "working.py"
  path.write_text(WORKING)
  with running(
    [sys.executable, str(path), way],
    env={**os.environ, "PYTHONPATH": os.getcwd(), "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    child = int(process.stdout.readline())
    if status == 130:
      process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status
    assert errors.splitlines()[-1] == said
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:
      time.sleep(0.1)
    assert not os.path.exists(f"/proc/{child}")


def test_output_that_is_not_read_any_more_is_told(tmp_path):
  """Whether it fills the pipe or not."""
  path = tmp_path / "telling.py"
  path.write_text(
    "import sys\nfrom lumiere_jax import cli\n"
    "def main(argv):\n"
    "  print('a', flush=True)\n"
    "  sys.stdin.read()\n"
    "  print(int(argv[0]) * 'b')\n"
    "if __name__ == '__main__':\n"
    "  cli.run(main)\n"
  )
  for size in (1, 10**6):
    with running(
      [sys.executable, str(path), str(size)],
      env={**os.environ, "PYTHONPATH": os.getcwd()},
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    ) as process:
      process.stdout.readline()
      process.stdout.close()
      _, errors = process.communicate(timeout=60)
    assert process.returncode == 141
    assert errors == "what this program prints is not read any more\n"


def test_a_missing_config_is_answered_with_configs(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "setup.py").write_text("import sys")
  with pytest.raises(UserError) as told:
    cli.read_config("nope")
  assert str(told.value) == "no config file 'nope'"
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "demo.py").write_text("def get_config():\n  pass")
  with pytest.raises(UserError, match=r"choices: configs/demo\.py$"):
    cli.read_config("nope")
  (tmp_path / "mine.py").write_text("def get_config():\n  pass")
  with pytest.raises(UserError, match=r"choices: mine\.py$"):
    cli.read_config("nope")
