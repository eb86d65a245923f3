# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import time

import pytest

from lumiere_jax.benchmarking.clock import Timing, measure, process_began


def test_the_first_run_is_apart_and_every_result_is_waited_for():
  runs, waited = [], []

  def run():
    runs.append(len(runs))
    return runs[-1]

  timing = measure(run, 3, warmup=2, wait=waited.append)
  assert runs == waited == [0, 1, 2, 3, 4]
  assert len(timing.seconds) == 3


def test_the_clock_runs_until_the_result_is_there():
  timing = measure(lambda: 0.02, 2, wait=time.sleep)
  assert min(timing.first, *timing.seconds) >= 0.02


def test_median_and_quartiles_are_those_of_the_timed_runs():
  timing = Timing(9.0, (5.0, 1.0, 3.0, 2.0, 4.0))
  assert timing.median == 3.0 and timing.quartiles == (2.0, 4.0)
  told = timing.as_dict()
  assert (told["min"], told["max"], told["first"]) == (1.0, 5.0, 9.0)
  assert told["each"] == [5.0, 1.0, 3.0, 2.0, 4.0]
  assert Timing(9.0, (1.0,)).quartiles == (1.0, 1.0)


def test_there_is_always_a_first_run():
  assert measure(lambda: None, 1, warmup=0, wait=lambda _: None).first >= 0
  with pytest.raises(ZeroDivisionError):
    measure(lambda: 1 / 0, 1)


def test_the_age_of_a_process_is_what_passed_since_it_was_started():
  code = (
    "import time; time.sleep(0.3)\n"
    "from lumiere_jax.benchmarking.clock import process_began\n"
    "print(time.perf_counter() - process_began(), flush=True)"
  )
  began = time.perf_counter()
  told = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  passed = time.perf_counter() - began
  if sys.platform == "linux":
    assert 0.25 < float(told.stdout) < passed + 0.05
  assert abs(process_began() - process_began()) < 0.05
