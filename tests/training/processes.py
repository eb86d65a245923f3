# SPDX-License-Identifier: Apache-2.0
"""Starts toy runs of one or several processes, as a launcher would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from tests import xla

SCRIPT = Path(__file__).with_name("toy_run.py")
ROOT = SCRIPT.parents[2]


def free_port():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


@contextlib.contextmanager
def started(workdir, *args, count=1, devices=1, log=None, slurm=False):
  """Yields the processes of a run; ends those that are left.

  Args:
    workdir: of the run.
    args: of toy_run.py behind it.
    count: processes.
    devices: of each.
    log: folder that gets a file with the output of each.
    slurm: whether they are told of each other as Slurm would.
  """
  envs = told_of_each_other(count)
  if slurm:
    port = free_port()
    envs = [
      {
        "LUMIERE_CLUSTER": "auto",
        "JAX_COORDINATOR_PORT": str(port),
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": str(count),
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": "0",  # Each sees all of its devices.
      }
      for index in range(count)
    ]
  command = [str(SCRIPT), str(workdir), *map(str, args)]
  with launched(command, log or workdir, envs, devices) as processes:
    yield processes


def told_of_each_other(count):
  """What each of several processes finds in its environment."""
  if count == 1:
    return [{}]
  port = free_port()
  return [
    {
      "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
      "JAX_NUM_PROCESSES": str(count),
      "JAX_PROCESS_ID": str(index),
    }
    for index in range(count)
  ]


@contextlib.contextmanager
def launched(command, log, envs, devices=1):
  """Yields a process for each environment; ends those that are left.

  Args:
    command: a script and its arguments.
    log: folder that gets a file with the output of each.
    envs: of each, beside what all share.
    devices: of each.
  """
  shared = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": xla.flags(devices)}
  log = Path(log)
  log.mkdir(parents=True, exist_ok=True)
  processes = []
  try:
    for index, env in enumerate(envs):
      with (log / f"out_{index}.txt").open("a") as out:
        processes.append(
          subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=os.environ | shared | env,
            stdout=out,
            stderr=subprocess.STDOUT,
          )
        )
    yield processes
  finally:
    for process in processes:
      if process.poll() is None:
        process.kill()
      process.wait()


def finish(processes, timeout=240):
  """Exit statuses of processes, in order."""
  end = time.monotonic() + timeout
  return [p.wait(max(end - time.monotonic(), 1)) for p in processes]


def run(workdir, *args, timeout=240, **of_processes):
  """Runs to the end; exit statuses. Further arguments as of `started`."""
  with started(workdir, *args, **of_processes) as processes:
    return finish(processes, timeout)


def output(workdir, index=0):
  return (Path(workdir) / f"out_{index}.txt").read_text()


def wait_for(condition, timeout=120):
  end = time.monotonic() + timeout
  while not condition():
    assert time.monotonic() < end, "it never came"
    time.sleep(0.02)


def record(path):
  """What `--record` wrote, by name."""
  with np.load(path) as arrays:
    return dict(arrays)


def same_bits(a, b):
  """Whether two records are of the same run, but for what was seen when."""
  assert a.keys() == b.keys()
  for name in a.keys() - {"seen"}:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def stop(process, number=signal.SIGTERM):
  os.kill(process.pid, number)
