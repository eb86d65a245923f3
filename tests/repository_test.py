# SPDX-License-Identifier: Apache-2.0
"""What holds for every file of the repository."""

import ast
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lumiere_jax import build, cli, movements, trees
from lumiere_jax.config import from_dict
from lumiere_jax.data.motion import MOTIONS, pose_at
from lumiere_jax.evaluation.foreground import Foreground
from lumiere_jax.evaluation.motion import measure_motions
from lumiere_jax.linked import weights_config
from lumiere_jax.scoring.protocol import ProtocolFile
from lumiere_jax.weights import folder
from tests import scripts

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lumiere_jax"
LICENSE_LINE = "# SPDX-License-Identifier: Apache-2.0"
MAX_BYTES = 60 * 2**20
MAX_LINES = 400
MAX_FUNCTION_LINES = 60
LONGER_FUNCTIONS = {"training/loop.py": 100}

# Imported only by the functions that need them: slow, or optional.
HEAVY = (
  "apache_beam",
  "av",
  "diffusers",
  "grain",
  "matplotlib",
  "sentencepiece",
  "tensorflow",
  "tensorflow_datasets",
  "torch",
  "transformers",
)

# Places that exist on one machine or in one network only. The brackets keep
# each pattern from finding itself.
FORBIDDEN = re.compile(
  r"(?:^|[\s\"'`(=:])/(?:w[o]rk|r[o]ot|h[o]me|U[s]ers|f[a]rm|opt|mnt)/\w"
  r"|p[y]pi\.org|p[y]thonhosted\.org|n[p]mjs\.(?:org|com)"
  r"|https?://[^\s]*(?:r[e]gistr|/s[i]mple/|d[e]bian)"
)

# What they define are classes, whose base classes are needed.
NEEDED = {
  "lumiere_jax.data.emoji_motion": ["tensorflow_datasets"],
  "lumiere_jax.data.shard_writer": ["apache_beam"],
  "lumiere_jax.data.ucf101_builder": ["tensorflow_datasets"],
}

# What the make targets leave behind.
MADE = {".venv", ".pytest_cache", ".ruff_cache", "__pycache__", "out"}

MODULES = sorted(PACKAGE.rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").glob("*.py"))


def _name(path: Path) -> str:
  return path.relative_to(ROOT).as_posix()


def _files() -> list[Path]:
  """Files of the repository: tracked, or new and not ignored."""
  command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
  listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  if listed.returncode:  # no checkout but an unpacked archive
    paths = [p for p in ROOT.rglob("*") if not MADE & set(p.parts)]
  else:
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
  return [p for p in paths if p.is_file()]


def _texts() -> list[tuple[Path, str]]:
  texts = []
  for path in _files():
    data = path.read_bytes()
    if b"\0" not in data[:8192]:
      texts.append((path, data.decode("utf-8", errors="replace")))
  return texts


def _run_silently(code: str) -> None:
  """Runs Python on the code; it must succeed and say nothing."""
  result = subprocess.run(
    [sys.executable, "-W", "error", "-c", code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  said = result.stdout + result.stderr
  assert (result.returncode, said) == (0, ""), said


def test_files_are_short():
  long = {
    _name(path): lines
    for path in MODULES
    if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
  }
  assert not long


def test_functions_are_short():
  long = {}
  for path in MODULES:
    inside = path.relative_to(PACKAGE).as_posix()
    limit = LONGER_FUNCTIONS.get(inside, MAX_FUNCTION_LINES)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.FunctionDef):
        # the docstring says shapes, units and sources at whatever length
        body = node.body[1:] if ast.get_docstring(node) else node.body
        lines = node.end_lineno - body[0].lineno + 1 if body else 0
        if lines > limit:
          long[f"{inside}:{node.name}"] = lines
  assert not long


def test_no_module_is_called_utils():
  names = {path.stem for path in MODULES} | {p.parent.name for p in MODULES}
  assert not {n for n in names if "util" in n or n in ("helpers", "misc")}


def test_every_package_is_one():
  folders = {path.parent for path in MODULES}
  missing = {_name(f) for f in folders if not (f / "__init__.py").exists()}
  assert not missing, "without __init__.py a wheel leaves these folders out"


def test_python_files_carry_the_license_line():
  without = [
    _name(path)
    for path, text in _texts()
    if path.suffix == ".py" and text.partition("\n")[0] != LICENSE_LINE
  ]
  assert not without


def test_no_file_names_a_machine_or_a_registry():
  found = [
    f"{_name(path)}:{number}: {line.strip()[:80]}"
    for path, text in _texts()
    for number, line in enumerate(text.splitlines(), start=1)
    if FORBIDDEN.search(line)
  ]
  assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
  "line",
  [
    "see /" + "home/me/x",
    "cd '/" + "work/main'",
    "PATH=/" + "root/bin",
    "from py" + "pi.org",
    "https://regi" + "stry.example/x",
  ],
)
def test_such_a_name_would_be_found(line):
  assert FORBIDDEN.search(line)


def test_repository_is_light():
  sizes = {_name(path): path.stat().st_size for path in _files()}
  largest = sorted(sizes, key=sizes.get, reverse=True)[:5]
  assert sum(sizes.values()) <= MAX_BYTES, [(n, sizes[n]) for n in largest]


def test_commands_and_configs_that_texts_name_exist():
  missing = []
  for path, text in _texts():
    for module in re.findall(r"python3? -m (lumiere_jax(?:\.[a-z_]+)+)", text):
      if not (ROOT / (module.replace(".", "/") + ".py")).exists():
        missing.append(f"{_name(path)}: python -m {module}")
    for config in re.findall(r"\bconfigs/\w+\.py", text):
      if not (ROOT / config).exists():
        missing.append(f"{_name(path)}: {config}")
  assert not missing, "\n" + "\n".join(missing)


def test_configs_exist():
  assert CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_file_parses_and_says_its_command(path):
  module = scripts.load(path)
  values = module.get_config().to_dict()
  if protocol := values.pop("protocol", None):
    assert from_dict({"protocol": protocol}, ProtocolFile)
  assert from_dict(values).name
  assert f"--config=configs/{path.name}" in module.__doc__


def test_package_import_is_silent_and_light():
  _run_silently(
    "import sys, time\n"
    "start = time.process_time()\n"
    "import lumiere_jax\n"
    "seconds = time.process_time() - start\n"
    f"heavy = sorted({{'jax', 'numpy', *{HEAVY}}} & set(sys.modules))\n"
    "assert not heavy, heavy\n"
    "assert seconds < 0.3, seconds\n"
  )


def test_every_module_imports_silently_and_without_heavy_libraries():
  _run_silently(
    "import importlib, pkgutil, sys\n"
    "import jax, lumiere_jax\n"
    "for m in pkgutil.walk_packages(lumiere_jax.__path__, 'lumiere_jax.'):\n"
    "  before = set(sys.modules)\n"
    "  importlib.import_module(m.name)\n"
    f"  heavy = set({HEAVY}) & (set(sys.modules) - before)\n"
    f"  heavy -= set({NEEDED}.get(m.name, ()))\n"
    "  assert not heavy, f'{m.name} imports {sorted(heavy)}'\n"
    "assert not jax._src.xla_bridge._backends, 'an import uses a device'\n"
  )


def test_every_module_that_runs_has_a_main():
  for path in MODULES:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guards = [n for n in tree.body if isinstance(n, ast.If)]
    if any("__main__" in ast.unparse(guard.test) for guard in guards):
      functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
      assert "main" in functions, _name(path)


# Of the files of each, in 10^6 bytes.
SIZES = {
  "demo": 24,
  "demo_cond": 10,
  "demo_twemoji": 3,
  "demo_mono": 3,
  "demo_ssr": 6,
}


@pytest.mark.parametrize("name", SIZES)
def test_shipped_weights_fit_what_the_demo_config_says(name):
  """A change of the network needs new weights, or this is red."""
  assert set(folder.shipped()) == set(SIZES)
  path = folder.resolve(name)
  params, saved, info = folder.load(path)
  config = from_dict(saved)
  assert trees.diff(build.abstract_params(config.model), params) == ""
  assert trees.fingerprint(params) == info.fingerprint
  files = [p for p in path.iterdir() if p.suffix == ".safetensors"]
  assert 0 < sum(p.stat().st_size for p in files) <= SIZES[name] * 10**6
  assert (path / "LICENSE").stat().st_size > 500
  text = (path / "config.json").read_text(encoding="utf-8")
  assert not re.search(r'"(?:[~.]*/|\w:)', text)  # No path of a machine.


def test_the_library_samples_as_the_command_line_does():
  config = from_dict(folder.load_config(folder.resolve("demo")))
  file = cli.read_config(str(ROOT / "configs" / "demo.py"))
  merged = from_dict(weights_config("demo", file))
  assert merged.sampler == config.sampler
  assert merged.conditional == config.conditional == "demo_cond"


def test_what_is_drawn_is_what_is_measured():
  nothing = Foreground(
    lab=np.zeros((8, 8, 8, 3)),
    background=np.zeros(3),
    mask=np.zeros((8, 8, 8)),
  )
  measured = measure_motions(nothing)
  drawn = {motion.movement for motion in MOTIONS}
  assert drawn == {"stays", *measured.scores}
  assert set(measured.rates) == set(movements.SPEEDS)
  for motion in MOTIONS:
    scales = {pose_at(motion, time).scale for time in (0.0, 0.3, 1.0)}
    scale = movements.drawn_scale(motion.movement, motion.size)
    assert (scales == {scale}) == (scale is not None), motion
    turns = pose_at(motion, 1.0).angle / (2 * math.pi)
    rate = motion.rate if motion.movement == "spins" else 0
    assert turns == pytest.approx(rate * movements.SECONDS)
