# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven over a pipe: no port, no driver.

The DevTools protocol's messages are JSON, each ended by a zero byte, read from
descriptor 3 and written to descriptor 4 of the browser.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Gives the pipes the numbers that the browser knows, and becomes it. Here and
# not between fork and exec, where JAX's threads would be in the way.
_BECOME = """
import os, sys
read, write = (os.dup(int(n)) for n in sys.argv[1:3])
while min(read, write) < 5:
  read, write = os.dup(read), os.dup(write)
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find_browser() -> str | None:
  """The first that is installed."""
  return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
  """A browser with one page; a context manager that ends it."""

  def __init__(self, program: str, profile: Path, downloads: Path):
    to_read, self._write = os.pipe()
    self._read, to_write = os.pipe()

    self._process = subprocess.Popen(
      [
        *(sys.executable, "-c", _BECOME, str(to_read), str(to_write)),
        program,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--autoplay-policy=no-user-gesture-required",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
      ],
      pass_fds=(to_read, to_write),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(to_write)
    self._number, self._rest, self._session = 0, b"", None
    try:
      self._open(downloads)
    except BaseException:
      self.__exit__()
      raise

  def _open(self, downloads: Path) -> None:
    """Opens the page."""
    target = self.call("Target.createTarget", url="about:blank")["targetId"]
    attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
    self.call(
      "Browser.setDownloadBehavior",
      behavior="allow",
      downloadPath=str(downloads),
    )
    self._session = attached["sessionId"]
    self.call("Page.enable")

  def __enter__(self) -> "Browser":
    return self

  def __exit__(self, *_: object) -> None:
    self._process.terminate()
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    os.close(self._write)
    os.close(self._read)

  def call(self, method: str, **params: Any) -> dict[str, Any]:
    """Sends a command, and returns its result."""
    self._number += 1
    message = {"id": self._number, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._write, json.dumps(message).encode() + b"\0")
    while True:
      answer = self._next()
      if answer.get("id") == self._number:
        if "error" in answer:
          raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

  def _next(self, seconds: float = 60) -> dict[str, Any]:
    while b"\0" not in self._rest:
      ready, _, _ = select.select([self._read], [], [], seconds)
      if not ready:
        raise TimeoutError("the browser says nothing")
      part = os.read(self._read, 65536)
      if not part:
        raise EOFError("the browser has ended")
      self._rest += part
    message, _, self._rest = self._rest.partition(b"\0")
    return json.loads(message)

  def open(self, path: Path) -> None:
    """Opens a file, and waits until it is there."""
    self.call("Page.navigate", url=path.resolve().as_uri())
    self.until("document.readyState === 'complete'")

  def run(self, code: str) -> Any:
    """The value of an expression in the page.

    Raises:
      RuntimeError: it throws.
    """
    found = self.call(
      "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
    )
    if "exceptionDetails" in found:
      raise RuntimeError(str(found["exceptionDetails"]))
    return found["result"].get("value")

  def until(self, code: str, seconds: float = 30) -> None:
    """Waits until an expression is true."""
    end = time.monotonic() + seconds
    while not self.run(code):
      if time.monotonic() > end:
        raise TimeoutError(code)
      time.sleep(0.05)

  def press(self, key: str) -> None:
    """Presses a key and lets it go, as a person does."""
    for kind in ("keyDown", "keyUp"):
      self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
