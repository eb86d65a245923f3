# SPDX-License-Identifier: Apache-2.0
"""Scripts outside of the package, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def load(path: str | Path) -> ModuleType:
  """A file of the repository; what it does when it is run is not done."""
  path = ROOT / path
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[path.stem] = module  # Where dataclasses look themselves up.
  spec.loader.exec_module(module)
  return module


def model_configs() -> list[Path]:
  """The files of configs/ that are of a model and of nothing else."""
  found = sorted((ROOT / "configs").glob("*.py"))
  return [path for path in found if "protocol=" not in path.read_text()]
