# SPDX-License-Identifier: Apache-2.0
import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="only glibc has these settings"
)
def test_kept_memory_is_not_faulted_in_again():
  assert faults("keep") * 10 < faults("default")
