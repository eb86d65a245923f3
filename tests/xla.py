# SPDX-License-Identifier: Apache-2.0
"""Flags of XLA that tests run under."""

import importlib.metadata
import os

# The suite's programs run once, and compiling them is most of its time: so it
# takes half as much. `make test-full` compiles as users do.
QUICK = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jaxlib").startswith("0.10."):
  QUICK += " --xla_cpu_use_fusion_emitters=false"  # Later ones know no such.


def flags(devices: int) -> str:
  """This process's flags, and so many simulated devices."""
  own = os.environ.get("XLA_FLAGS", "")
  return f"{own} --xla_force_host_platform_device_count={devices}".strip()
