# SPDX-License-Identifier: Apache-2.0
"""The toy run, imported from the script that it also is."""

import pytest

from tests import scripts


@pytest.fixture(scope="session")
def toy():
  return scripts.load("tests/training/toy_run.py")
