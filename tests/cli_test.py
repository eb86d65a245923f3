# SPDX-License-Identifier: Apache-2.0
import platform
import subprocess
import sys

import pytest

from lumiere_jax import cli
from lumiere_jax.errors import UserError

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
