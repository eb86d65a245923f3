# SPDX-License-Identifier: Apache-2.0
"""Whatever moment a run is killed at, nothing is lost but time."""

import pytest

from tests.training.kills import trial


@pytest.mark.full
def test_a_run_that_is_killed_is_as_if_it_were_not(tmp_path):
  result = trial(tmp_path, kills=20, seed=1)
  assert result["in_the_middle_of_a_save"] > 0
