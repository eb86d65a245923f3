# SPDX-License-Identifier: Apache-2.0
"""The long training of demo64: carries on wherever it is.

python docs/long_training.py start    # in the background, at low priority
python docs/long_training.py pause    # stops the processes where they are
python docs/long_training.py resume
python docs/long_training.py stop     # saves, and ends
python docs/long_training.py status
python docs/long_training.py record   # the curves, into docs/runs

It trains in a clone of this repository in --folder (default runs/long), so
that edits here do not disturb it; `start --update` brings the clone up to the
last commit. Stages follow one another, each from the weights of the one before.
On a machine without --folder, it goes on from the shipped snapshot that
docs/runs/long.json names ({"stage": "t2i", "step": 9000, "weights": "demo64"}),
with a new optimizer. The sprite packs are --folder/
sprites and sprites256 (python -m lumiere_jax.data.sprites --names=world, the
second with --size=240).
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from lumiere_jax.cli import read_config

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "runs" / "long.json"
# Of the recorded curves: a line for so many steps.
RECORD_EVERY = 250


@dataclasses.dataclass(frozen=True)
class Stage:
  """One run of train.

  Attributes:
    name: of its workdir.
    config: its config file, which says for how many steps it trains.
    after: the stage whose weights it begins with; "" begins at random.
    sprites: folder of its sprite pack.
  """

  name: str
  config: str
  after: str = ""
  sprites: str = "sprites"


STAGES = (
  Stage("t2i", "configs/demo64_t2i.py"),
  Stage("t2v", "configs/demo64_t2v.py", "t2i"),
  Stage("cond", "configs/demo64_cond.py", "t2v"),
  Stage("ssr_t2i", "configs/demo64_ssr_t2i.py", sprites="sprites256"),
  Stage("ssr", "configs/demo64_ssr.py", "ssr_t2i", sprites="sprites256"),
)


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a stage runs on this machine.

  Attributes:
    flags: of train.
    step: optimizer steps of the stage that the weights had seen before.
  """

  flags: list[str]
  step: int


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  actions = {
    "start": start,
    "pause": lambda folder: send(folder, signal.SIGSTOP),
    "resume": lambda folder: send(folder, signal.SIGCONT),
    "stop": stop,
    "status": status,
    "record": record,
    "run": run,  # What start starts.
  }
  parser.add_argument("action", choices=actions)
  parser.add_argument("--folder", default="runs/long")
  parser.add_argument("--update", action="store_true")
  args = parser.parse_args()
  folder = Path(args.folder).resolve()
  if args.update:
    shutil.rmtree(folder / "repo", ignore_errors=True)
  actions[args.action](folder)


def start(folder: Path) -> None:
  """Starts the stages in a session of their own."""
  if group(folder):
    sys.exit(f"it runs already, as process group {group(folder)}")
  folder.mkdir(parents=True, exist_ok=True)
  if not (folder / "repo").is_dir():
    clone = ["git", "clone", "--quiet", str(ROOT), str(folder / "repo")]
    subprocess.run(clone, check=True)
  command = [sys.executable, str(folder / "repo/docs/long_training.py"), "run"]
  with (folder / "log").open("a") as log:
    process = subprocess.Popen(
      [*command, f"--folder={folder}"],
      cwd=folder / "repo",
      env=os.environ | {"PYTHONPATH": str(folder / "repo")},
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=log,
      start_new_session=True,
    )
  (folder / "pid").write_text(f"{process.pid}\n")
  print(f"started as process group {process.pid}; its log is {folder / 'log'}")


def run(folder: Path) -> None:
  """Runs the stages, one after the other, until a signal or the end."""
  os.nice(19)
  with contextlib.suppress(OSError):
    # Linux weighs sessions against each other before it weighs processes.
    Path("/proc/self/autogroup").write_text("19")
  for stage in STAGES:
    if (folder / stage.name / "done").exists():
      continue
    plan = plan_of(folder, stage)
    if plan is None:
      continue
    print(f"--- {stage.name}: {time.ctime()}: {plan}", flush=True)
    command = [sys.executable, "-m", "lumiere_jax.train", *plan.flags]
    status = subprocess.run(command).returncode
    if status:
      sys.exit(status)
    (folder / stage.name / "done").touch()


def plan_of(folder: Path, stage: Stage) -> Plan | None:
  """How a stage runs; None if the shipped snapshot was taken after it.

  It is written down when the stage begins: it must be the same after a restart,
  whatever was shipped in the meantime.
  """
  file = folder / f"{stage.name}.json"
  if file.is_file():
    return Plan(**json.loads(file.read_text()))
  shipped = json.loads(RECORD.read_text()) if RECORD.is_file() else None
  names = [other.name for other in STAGES]
  number = names.index(stage.name)
  at = names.index(shipped["stage"]) if shipped else -1
  if number < at:
    return None
  flags = [
    f"--config={stage.config}",
    f"--workdir={folder / stage.name}",
    f"--config.data.data_dir={folder / stage.sprites}",
  ]
  step, init = 0, ""
  if number == at:
    step, init = shipped["step"], shipped["weights"]
    steps = read_config(stage.config)["train"]["steps"]
    flags.append(f"--config.train.steps={steps - step}")
  elif stage.after:
    before = folder / stage.after / "weights"
    init = str(before) if before.is_dir() else shipped["weights"]
  if init:
    flags.append(f"--init_from={init}")
  plan = Plan(flags, step)
  folder.mkdir(parents=True, exist_ok=True)
  file.write_text(json.dumps(dataclasses.asdict(plan)) + "\n")
  return plan


def group(folder: Path) -> int | None:
  """The process group of a running training."""
  try:
    pid = int((folder / "pid").read_text())
    os.killpg(pid, 0)
  except (OSError, ValueError):
    return None
  return pid


def send(folder: Path, number: signal.Signals) -> None:
  """Sends a signal to all processes of the training, if it runs."""
  running = group(folder)
  if running is None:
    print("it does not run")
    return
  os.killpg(running, number)


def stop(folder: Path) -> None:
  """Has the training save and end, and waits for that."""
  send(folder, signal.SIGCONT)
  send(folder, signal.SIGTERM)
  while group(folder):
    time.sleep(1)


def status(folder: Path) -> None:
  """Prints the last line of each stage's metrics."""
  print(f"process group: {group(folder)}")
  for stage in STAGES:
    lines = metrics(folder, stage)
    if lines:
      print(stage.name, json.dumps(lines[-1]))


def record(folder: Path) -> None:
  """Brings each stage's curve in docs/runs/long_STAGE.jsonl up to date."""
  for stage in STAGES:
    lines = metrics(folder, stage)
    if not lines:
      continue
    before = plan_of(folder, stage).step
    path = RECORD.with_name(f"long_{stage.name}.jsonl")
    known = path.read_text().splitlines() if path.is_file() else []
    kept = [text for text in known if json.loads(text)["step"] <= before]
    for line in lines:
      if "eval" in line or line["step"] % RECORD_EVERY == 0:
        line["step"] += before
        kept.append(json.dumps(line))
    path.write_text("".join(text + "\n" for text in kept))
    print(path)


def metrics(folder: Path, stage: Stage) -> list[dict]:
  path = folder / stage.name / "metrics.jsonl"
  if not path.is_file():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
  main()
