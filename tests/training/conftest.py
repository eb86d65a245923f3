# SPDX-License-Identifier: Apache-2.0
"""The toy run, imported from the script that it also is."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("toy_run.py")


@pytest.fixture(scope="session")
def toy():
  spec = importlib.util.spec_from_file_location("toy_run", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  sys.modules["toy_run"] = module  # where dataclasses look themselves up
  spec.loader.exec_module(module)
  return module
