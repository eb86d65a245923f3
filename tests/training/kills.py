# SPDX-License-Identifier: Apache-2.0
"""Kills a training run at random moments, resumes it, and compares.

python -m tests.training.kills --kills=200 --out=docs/runs/kills.json
"""

import argparse
import json
import platform
import random
import signal
import tempfile
import time
from pathlib import Path

import jax

from tests.training.processes import record, run, same_bits, started

EVERY = 2  # Steps between checkpoints.
CLOCK = ("wall_time", "stills_per_second", "data_wait_share", "seconds")
# A checkpoint takes about as long as the steps between two of them, so that
# every second kill or so hits one that is being written.
ARGS = (f"--checkpoint_every={EVERY}", "--ballast_mb=128", "--pace=0.05")


def lines(workdir):
  """What was logged, but for times."""
  text = (workdir / "metrics.jsonl").read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  return [{k: v for k, v in r.items() if k not in CLOCK} for r in rows]


def steps_told(out):
  return [
    int(line.split()[-1])
    for line in out.splitlines()
    if line.startswith("after step ")
  ]


def checkpoints(workdir):
  folder = workdir / "checkpoints"
  names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
  whole = [int(n) for n in names if n.isdigit()]
  return max(whole, default=0), any(not n.isdigit() for n in names)


def kill_once(workdir, steps, rng):
  """Starts the run and kills it; what was found, or None if it had ended."""
  log = workdir / "out_0.txt"
  before = len(log.read_text()) if log.exists() else 0
  with started(workdir, steps, *ARGS, f"--seen={workdir}/seen") as processes:
    process = processes[0]
    # Of one in four the start; of the others anything after so many steps that
    # the next checkpoint but one may have begun, however slow the machine.
    steps_first = rng.randrange(1, 2 * EVERY + 2) if rng.random() > 0.25 else 0
    while process.poll() is None:
      if len(steps_told(log.read_text()[before:])) >= steps_first:
        break
      time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.5 if steps_first else 4.0))
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
      return None
  told = steps_told(log.read_text()[before:])
  newest, torn = checkpoints(workdir)
  last = max(told, default=newest)
  # One interval is not saved yet, that before may be half-written.
  assert last - newest <= 2 * EVERY, (last, newest)
  return {"last_step": last, "checkpoint": newest, "torn": torn}


def trial(folder, kills, seed):
  """Kills a run so many times; compares it with one that nothing happened to.

  Raises:
    AssertionError: they differ in any bit.
  """
  folder, rng, found = Path(folder), random.Random(seed), []
  killed, steps = folder / "killed", 4 * kills
  while len(found) < kills:
    one = kill_once(killed, steps, rng)
    assert one is not None, "the run ended before it was killed often enough"
    found.append(one)
  results = {}
  for name in ("killed", "straight"):
    args = [f"--record={folder}/{name}.npz", f"--seen={folder}/{name}/seen"]
    status = run(
      folder / name, steps, *ARGS[:2], *args, timeout=240 + 4 * steps
    )
    assert status == [0], (folder / name / "out_0.txt").read_text()[-2000:]
    results[name] = record(folder / f"{name}.npz")
  same_bits(results["killed"], results["straight"])
  assert lines(killed) == lines(folder / "straight")
  assert seen(killed) == seen(folder / "straight")
  return {
    "kills": kills,
    "steps": steps,
    "in_the_middle_of_a_save": sum(f["torn"] for f in found),
    "before_the_first_step": sum(
      f["last_step"] == f["checkpoint"] for f in found
    ),
    "most_steps_lost": max(f["last_step"] - f["checkpoint"] for f in found),
    "bit_equal": True,
    "seed": seed,
    "python": platform.python_version(),
    "jax": jax.__version__,
    "platform": f"{platform.machine()}, CPU",
  }


def seen(workdir):
  """Examples of each step, as they came the last time."""
  found = {}
  for line in (workdir / "seen").read_text().splitlines():
    step, ids = json.loads(line)
    found[step] = ids
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--kills", type=int, default=200)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    began = time.time()
    result = trial(folder, args.kills, args.seed)
    result["minutes"] = round((time.time() - began) / 60, 1)
  text = json.dumps(result, indent=2)
  print(text)
  if args.out:
    Path(args.out).write_text(text + "\n")


if __name__ == "__main__":
  main()
