# SPDX-License-Identifier: Apache-2.0
"""Runs of several processes: the same as one, stopped and resumed as one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lumiere_jax import cli
from lumiere_jax.errors import HUNG, PREEMPTED, UserError
from tests.training.processes import (
  ROOT,
  finish,
  free_port,
  output,
  record,
  run,
  same_bits,
  started,
  stop,
  wait_for,
)

CLOSE = dict(rtol=2e-5, atol=1e-6)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """What six steps of one process with four devices give."""
  folder = tmp_path_factory.mktemp("one")
  path = folder / "record.npz"
  assert run(folder, 6, f"--record={path}", devices=4) == [0], output(folder)
  return record(path)


def losses(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line)["loss"] for line in text.splitlines()]


def close(a, b):
  assert a.keys() == b.keys()
  for name in a.keys() - {"seen"}:
    np.testing.assert_allclose(a[name], b[name], err_msg=name, **CLOSE)


@pytest.mark.parametrize(("count", "devices", "slices"), [(2, 2, 2), (4, 1, 1)])
def test_several_processes_train_as_one(
  straight, tmp_path, count, devices, slices
):
  """Half of the steps, then the rest by another number of processes."""
  path = tmp_path / "record.npz"
  mesh = "--fsdp=2", f"--slices={slices}"
  status = run(tmp_path, 3, *mesh, count=count, devices=devices)
  assert status == [0] * count, output(tmp_path)
  more = (6, "--fsdp=4", f"--record={path}")
  assert run(tmp_path, *more, devices=4) == [0], output(tmp_path)
  got = record(path)
  close(got, straight)
  np.testing.assert_array_equal(got["seen"], straight["seen"][3:])
  assert len(losses(tmp_path)) == 3


def test_and_one_process_is_resumed_by_several(straight, tmp_path):
  assert run(tmp_path, 3, devices=4) == [0], output(tmp_path)
  """Which Slurm tells of each other."""
  args = (6, f"--record={tmp_path}/r.npz")
  status = run(tmp_path, *args, count=2, devices=1, slurm=True)
  assert status == [0, 0], output(tmp_path)
  close(record(tmp_path / "r.npz"), straight)


def test_sigterm_of_one_stops_all_at_the_same_step(straight, tmp_path):
  folder = tmp_path / "run"
  with started(folder, 6, "--pace=0.5", count=2, devices=2) as processes:
    wait_for(lambda: "after step 1" in output(folder, 1))
    began = time.monotonic()
    stop(processes[1])
    assert finish(processes) == [PREEMPTED] * 2
  # Two steps at most (0.5 s each), a checkpoint, and leaving Python.
  assert time.monotonic() - began < 20
  saved = {p.name for p in (folder / "checkpoints").iterdir()}
  assert len(saved) == 1
  assert "stopped by another process after step" in output(folder, 0)
  path = tmp_path / "r.npz"
  args = (6, f"--record={path}")
  assert run(folder, *args, count=2, devices=2) == [0, 0]
  close(record(path), straight)


def test_sigterm_before_training_ends_a_process_at_once():
  program = (
    "import time; from lumiere_jax import cli; cli.join_processes(); "
    "print('joined', flush=True); time.sleep(60)"
  )
  env = {
    "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
    "JAX_NUM_PROCESSES": "1",
    "JAX_PROCESS_ID": "0",
  }
  with subprocess.Popen(
    [sys.executable, "-c", program],
    cwd=ROOT,
    env=os.environ | env,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      assert process.stdout.readline() == "joined\n"
      process.send_signal(signal.SIGTERM)
      assert process.wait(timeout=30) == -signal.SIGTERM
    finally:
      process.kill()


def test_a_disk_that_fills_up_stops_a_run_that_can_go_on(small_disk, tmp_path):
  path, args = tmp_path / "r.npz", ("--ballast_mb=4", "--pace=0.3")
  workdir, filler = small_disk / "run", small_disk / "filler"
  with started(workdir, 9, *args, log=tmp_path) as processes:
    wait_for(lambda: "after step 3" in output(tmp_path))
    wait_for(lambda: (workdir / "checkpoints" / "3").is_dir())
    with contextlib.suppress(OSError), filler.open("wb") as file:
      while True:
        file.write(bytes(1 << 16))
    assert finish(processes) == [2]
  told = output(tmp_path)
  assert "Traceback" not in told
  assert "error: " in told
  saved = [p.name for p in (workdir / "checkpoints").iterdir()]
  assert "3" in saved
  filler.unlink()
  more = (9, *args, f"--record={path}")
  assert run(workdir, *more, log=tmp_path) == [0], output(tmp_path)
  other = (tmp_path / "other", 9, args[0], f"--record={tmp_path}/o.npz")
  assert run(*other) == [0]
  same_bits(record(path), record(tmp_path / "o.npz"))


@pytest.mark.parametrize(
  ("env", "message"),
  [
    ({"JAX_PROCESS_ID": "0"}, "all three must be set, two to numbers: "),
    ({"LUMIERE_CLUSTER": "yes"}, "LUMIERE_CLUSTER='yes' must be auto"),
    (
      {
        "JAX_COORDINATOR_ADDRESS": "127.0.0.1:1",
        "JAX_NUM_PROCESSES": "2",
        "JAX_PROCESS_ID": "2",
      },
      r"JAX_PROCESS_ID must be in 0\.\.1",
    ),
  ],
)
def test_half_a_launcher_is_a_mistake(monkeypatch, env, message):
  for name, value in env.items():
    monkeypatch.setenv(name, value)
  with pytest.raises(UserError, match=message):
    cli.join_processes()


def test_a_run_that_hangs_says_where_and_ends(tmp_path):
  with started(tmp_path, 6, "--hang_at=2", "--watchdog=3") as processes:
    assert finish(processes) == [HUNG]
  told = output(tmp_path)
  assert "no progress for 3 s in phase 'eval' after step 2" in told
  assert "in evaluate" in told
  assert 'File "' in next(tmp_path.glob("stacks.*")).read_text()


def test_time_is_told_over_all_starts(tmp_path):
  with started(tmp_path, 6, "--pace=0.4", "--kill_at=5") as processes:
    finish(processes)
  before = json.loads((tmp_path / "goodput.json").read_text())["seconds"]
  assert run(tmp_path, 6, "--pace=0.1") == [0]
  after = json.loads((tmp_path / "goodput.json").read_text())["seconds"]
  assert after["eval"] >= 3 * 0.4 + 3 * 0.1  # steps 1 to 3, then 4 to 6
  assert before["lost"] == 0
  assert after["start"] > before["start"]
  assert run(tmp_path, 8) == [0]
  longer = json.loads((tmp_path / "goodput.json").read_text())["seconds"]
  assert longer["lost"] == after["lost"]  # That run had ended.
  line = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
  assert set(json.loads(line)["seconds"]) == set(after)


def test_a_record_is_of_the_same_bits(straight):
  with pytest.raises(AssertionError):
    same_bits(straight, straight | {".step": straight[".step"] + 1})
