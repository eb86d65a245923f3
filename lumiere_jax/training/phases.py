# SPDX-License-Identifier: Apache-2.0
"""Where the wall time of a run goes, over all restarts, and its watchdog."""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lumiere_jax.errors import HUNG

# Between which all wall time is divided. "lost" is what was done after the
# checkpoint that a restarted run went on from, and had to be done again.
PHASES = ("start", "compile", "data", "step", "checkpoint", "eval", "lost")
_FILE, _STACKS = "goodput.json", "stacks"
_WRITE_EVERY = 1.0  # seconds
# Where Python itself cannot run any more, C ends the process so much later.
_GRACE = 30.0


class Phases:
  """Counts the seconds of each phase, and ends a run that has come to a halt.

  What was counted outlives the process in WORKDIR/goodput.json; in the
  checkpoint lies what had been counted when it was made.

  Args:
    workdir: of the run; None keeps nothing.
    timeout: seconds in one phase of one step after which all threads' stacks
      are written to WORKDIR/stacks.PID and the process exits with status HUNG;
      0 never.
    writes: whether this process writes the file; of several, one does.
  """

  def __init__(
    self,
    workdir: str | os.PathLike | None = None,
    *,
    timeout: float = 0,
    writes: bool = True,
  ):
    self._folder = None if workdir is None else Path(workdir)
    self._timeout, self._writes = timeout, writes
    self._seconds = dict.fromkeys(PHASES, 0.0)
    self._phase, self._mark = "start", time.monotonic()
    self._step = 0
    self._fresh = True  # Nothing of a checkpoint is known yet.
    self._saved: dict[str, float] | None = None  # By the last save.
    self._settled: dict[str, float] | None = None
    self._beat = self._mark
    self._lock = threading.RLock()
    self._end = threading.Event()
    self._stacks: IO[str] | None = None

  @property
  def seconds(self) -> dict[str, float]:
    """Wall time of each phase so far."""
    with self._lock:
      self._count()
      return dict(self._seconds)

  def get_state(self) -> dict[str, Any]:
    self._saved = self.seconds
    return self._saved

  def settle(self) -> None:
    """Says that the last checkpoint has all: what follows it is not lost."""
    self._settled = self._saved

  def set_state(self, state: dict[str, Any]) -> None:
    """Goes on from a checkpoint: what was counted after it is lost."""
    with self._lock:
      self._count()
      self._saved = state
      # A process that starts knows from the file what those before it counted;
      # starting is no loss.
      file = self._read() if self._fresh else {}
      known = file.get("seconds", state) if self._fresh else self._seconds
      if file.get("settled") == state:
        state = known
      here = self._seconds if self._fresh else dict.fromkeys(PHASES, 0.0)
      again = sum(known[p] - state[p] for p in PHASES if p != "lost")
      lost = max(known["lost"], state["lost"]) + max(again, 0.0)
      self._seconds = {p: here[p] + state[p] for p in PHASES} | {"lost": lost}
      self._fresh = False

  @contextlib.contextmanager
  def watch(self) -> Iterator[None]:
    """Runs the watchdog, and keeps the file, as long as the block runs."""
    with contextlib.ExitStack() as stack:
      if self._timeout and self._folder is not None:
        path = self._folder / f"{_STACKS}.{os.getpid()}"
        self._stacks = stack.enter_context(path.open("w"))
        stack.callback(path.unlink)
        stack.callback(faulthandler.cancel_dump_traceback_later)
      thread = threading.Thread(target=self._run, daemon=True)
      thread.start()
      try:
        yield
      finally:
        self._end.set()
        thread.join()
        self._write()

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator[None]:
    """Counts the time of a block; a phase within another interrupts it."""
    before = self._switch(name)
    try:
      yield
    finally:
      self._switch(before)

  def beat(self, step: int) -> None:
    """Says that the run is alive, at this step."""
    with self._lock:
      self._step, self._beat = step, time.monotonic()
      if self._stacks is not None:
        faulthandler.dump_traceback_later(
          self._timeout + _GRACE, exit=True, file=self._stacks
        )

  def table(self) -> str:
    """The seconds and shares of all phases, for people."""
    seconds = self.seconds
    total = sum(seconds.values()) or 1.0
    lines = [
      f"  {name:<10} {seconds[name]:10.1f} s {seconds[name] / total:6.1%}"
      for name in PHASES
    ]
    return "\n".join(["wall time, all starts together:", *lines])

  def _switch(self, name: str) -> str:
    with self._lock:
      self._count()
      before, self._phase = self._phase, name
      self._beat = time.monotonic()
      return before

  def _count(self) -> None:
    now = time.monotonic()
    self._seconds[self._phase] += now - self._mark
    self._mark = now

  def _run(self) -> None:
    written = time.monotonic()
    while not self._end.wait(0.2):
      now = time.monotonic()
      if self._timeout and now - self._beat > self._timeout:
        self._give_up(now - self._beat)
      if now - written > _WRITE_EVERY:
        self._write()
        written = now

  def _give_up(self, seconds: float) -> None:
    told = (
      f"no progress for {seconds:.0f} s in phase {self._phase!r} after step "
      f"{self._step}: all threads' stacks follow, then the process ends with "
      f"status {HUNG}"
    )
    print(told, file=sys.stderr, flush=True)
    faulthandler.dump_traceback(sys.stderr, all_threads=True)
    if self._stacks is not None:
      with contextlib.suppress(OSError):
        self._stacks.write(told + "\n")
        self._stacks.flush()
        faulthandler.dump_traceback(self._stacks, all_threads=True)
    os._exit(HUNG)  # No handler could run: the main thread hangs.

  def _read(self) -> dict[str, dict[str, float]]:
    """What the file says; nothing if it is not there, or not as it should be.

    "seconds" is what was counted, "settled" what of it the checkpoint has that
    a run ended with.
    """
    if self._folder is None:
      return {}
    try:
      file = json.loads((self._folder / _FILE).read_text())
      return {
        name: {phase: float(file[name][phase]) for phase in PHASES}
        for name in ("seconds", "settled")
        if file.get(name)
      }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
      return {}

  def _write(self) -> None:
    if self._folder is None or not self._writes:
      return
    file = {"step": self._step, "seconds": self.seconds}
    if self._settled:
      file["settled"] = self._settled
    text = json.dumps(file, indent=2)
    # A full disk stops a run where it saves, not here.
    with contextlib.suppress(OSError):
      part = self._folder / (_FILE + ".part")
      part.write_text(text + "\n")
      part.replace(self._folder / _FILE)
