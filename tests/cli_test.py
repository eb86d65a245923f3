# SPDX-License-Identifier: Apache-2.0
import platform
import subprocess
import sys

from lumiere_jax import cli

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
