# SPDX-License-Identifier: Apache-2.0
"""The package as others install it: built, unpacked, away from the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
USE = """
import lumiere_jax
print(lumiere_jax.__file__)
clips = lumiere_jax.Lumiere.load("demo").generate(["a ghost spinning"], seed=0)
print(clips.dtype, clips.shape)
"""


def run(command, **options):
  done = subprocess.run(
    [sys.executable, *command], capture_output=True, text=True, **options
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
  """A folder that holds what a wheel of this checkout holds."""
  path = tmp_path_factory.mktemp("wheel")
  source = path / "source"
  ignore = shutil.ignore_patterns("__pycache__")
  shutil.copytree(ROOT / "lumiere_jax", source / "lumiere_jax", ignore=ignore)
  for name in SOURCES:
    shutil.copy(ROOT / name, source)
  pip = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
  run([*pip, f"--wheel-dir={path}", str(source)])
  (wheel,) = path.glob("*.whl")
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(path / "site")
  return path / "site"


def test_every_file_of_the_package_is_in_the_wheel(installed):
  listed = subprocess.run(
    ["git", "ls-files", "-z", "lumiere_jax"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=True,
  )
  names = [name for name in listed.stdout.split("\0") if name]
  assert len(names) > 60
  absent = [name for name in names if not (installed / name).is_file()]
  assert not absent


def test_shipped_weights_make_a_clip_from_the_wheel(
  installed, tmp_path, minilm
):
  env = os.environ | {"PYTHONPATH": str(installed)}
  file, clip = run(["-c", USE], cwd=tmp_path, env=env).splitlines()
  assert Path(file).is_relative_to(installed)
  assert clip == "uint8 (1, 80, 32, 32, 3)"
