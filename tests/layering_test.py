# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the table of the house, and a walk over every import.

A unit is a module or package directly under lumiere_jax. It may import units
of lower layers, never its siblings and never upward; where an order is given,
inside a package or a layer, also what stands before it.
"""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lumiere_jax"
CONFIGS = PACKAGE.parent / "configs"

LAYERS = {
  "vocabulary": ("errors", "shapes", "trees", "config"),
  "parts": (
    "nn",
    "diffusion",
    "text",
    "weights",
    "sharding",
    "checkpoint",
    "media",
    "profiling",
    "compiling",
    "plotting",
    "features",
  ),
  "wholes": (
    "models",
    "conditioning",
    "data",
    "evaluation",
    "scoring",
    "survey",
  ),
  "doers": ("training", "inference"),
  "composition": (
    "encoders",
    "feed",
    "build",
    "stage",
    "evaluators",
    "initial",
    "extractors",
    "feature_store",
    "caption_fit",
    "scores",
    "meters",
    "measuring",
    "parity",
    "linked",
    "planning",
    "benchmarking",
    "api",
    "trials",
    "studio",
    "gathering",
    "enlarging",
    "cli",
    "flags",
    "job",
  ),
  "entry": (
    "",  # the package itself, which offers `Lumiere`
    "train",
    "sample",
    "evaluate",
    "benchmark",
    "plan",
    "score",
    "zero_shot",
    "study",
    "import_weights",
    "export_weights",
    "average_weights",
    "embed_text",
    "data.sprites",
    "data.styles",
    "data.write",
  ),
}
UNITS = {unit for units in LAYERS.values() for unit in units}

# Layers whose units may import those that stand before them in the layer.
ORDERED_LAYERS = ("vocabulary", "composition")

# Inside a package a module imports only those that stand before it.
ORDER = {
  "config": (
    "check",
    "network",
    "process",
    "condition",
    "mesh",
    "data",
    "recipe",
    "parse",
  ),
  "nn": (
    "precision",
    "activation",
    "norm",
    "embed",
    "attention",
    "remat",
    "conv",
    "resnet",
    "frames",
    "temporal",
  ),
  "diffusion": (
    "schedule",
    "quantile",
    "prediction",
    "loss",
    "guidance",
    "reuse",
    "known",
    "multidiffusion",
    "sampler",
  ),
  "media": (
    "pixels",
    "beside",
    "files",
    "still",
    "reel",
    "read",
    "segment",
    "write",
    "transcode",
    "sheet",
  ),
  "profiling": (
    "ledger",
    "network",
    "work",
    "hlo",
    "convolution",
    "loops",
    "collectives",
    "program",
    "memory",
    "hardware",
    "topology",
  ),
  "text": ("tokenizer", "bert", "t5", "encoder", "store"),
  "weights": (
    "lazy",
    "rules",
    "foreign",
    "bert",
    "t5",
    "efficientnet",
    "i3d",
    "c3d",
    "clip",
    "videomae",
    "transnet",
    "diffusers_unet",
    "scheduler",
    "shards",
    "delta",
    "folder",
  ),
  "checkpoint": ("errors", "checksum", "checkpointer"),
  "benchmarking": (
    "clock",
    "machine",
    "subject",
    "levels",
    "bench",
    "compare",
    "plot",
    "report",
  ),
  "models": ("stunet", "deep", "widen", "sharded"),
  "sharding": ("mesh", "batch", "rules"),
  "data": (
    "emoji",
    "world",
    "captions",
    "animation",
    "pack",
    "render",
    "clips",
    "emoji_motion",
    "record",
    "source",
    "built",
    "shards",
    "folder",
    "ucf101",
    "mixture",
    "draw",
    "batches",
    "loader",
    "throughput",
    "beam",
    "prepare",
    "shard_writer",
    "pipeline",
    "ucf101_builder",
  ),
  "conditioning": ("low_res", "mask", "task", "seam", "style"),
  "evaluation": (
    "color",
    "foreground",
    "polar",
    "background",
    "motion",
    "flicker",
    "plain",
    "retrieval",
    "report",
    "continuation",
    "layout",
    "strokes",
    "segments",
    "perceptual",
    "enlargement",
    "table",
  ),
  "features": (
    "norm",
    "transformer",
    "efficientnet",
    "i3d",
    "c3d",
    "clip",
    "videomae",
    "transnet",
  ),
  "scoring": (
    "moments",
    "distance",
    "uncertainty",
    "card",
    "canaries",
    "slices",
    "enough",
    "zero_shot",
    "protocol",
    "table",
  ),
  "survey": ("design", "preference", "page", "plot"),
  "inference": ("prompt", "material", "asking", "generate", "cascade"),
  "planning": ("task", "account", "plan", "advice", "report"),
  "training": (
    "state",
    "averages",
    "optimizer",
    "snapshots",
    "phases",
    "guard",
    "log",
    "step",
    "loop",
  ),
}
# What a higher layer is refused all the same: it is passed in.
REFUSED = {"training": ("models", "data", "evaluation", "inference")}


def _unit(module: str) -> str:
  """The unit of a module named from the package down; "" is the package."""
  return module if module in LAYERS["entry"] else module.partition(".")[0]


def _place(unit: str) -> tuple[int, int]:
  for level, units in enumerate(LAYERS.values()):
    if unit in units:
      return level, units.index(unit)
  raise AssertionError(
    f"lumiere_jax.{unit} has no place in LAYERS: give it one"
  )


def _inside(package: str, importer: str, target: str) -> str | None:
  """Says why a module of a package may not import another one of it."""
  if importer == package:
    return None  # the package's __init__ gathers its modules
  if target == package:
    return "imports its own package, which imports it"
  order = ORDER.get(package, ())
  names = [name.removeprefix(package + ".") for name in (importer, target)]
  for name in names:
    if name not in order:
      return f"{package}.{name} has no place in ORDER: give it one"
  later = order.index(names[0]) <= order.index(names[1])
  return f"stands before {target} in ORDER" if later else None


def _refusal(importer: str, target: str) -> str | None:
  """Says why one module may not import another, or nothing."""
  one, other = _unit(importer), _unit(target)
  if one == other:
    return _inside(one, importer, target)
  (level, index), (other_level, other_index) = _place(one), _place(other)
  if other in REFUSED.get(one, ()):
    return f"is handed what it needs of {other}"
  if level > other_level:
    return None
  layers = list(LAYERS)
  if level == other_level:
    if layers[level] in ORDERED_LAYERS and index > other_index:
      return None
    return f"is a sibling: both are {layers[level]}"
  return f"is of a lower layer: {layers[level]} below {layers[other_level]}"


def _module(name: str) -> str:
  """The longest part of a dotted name under lumiere_jax that is a module."""
  parts = name.split(".")[1:]
  while parts:
    name, path = ".".join(parts), PACKAGE.joinpath(*parts)
    if name in UNITS or path.with_suffix(".py").exists() or path.is_dir():
      return name
    parts.pop()
  return ""


def _imported(source: str) -> set[str]:
  """Every dotted name a source imports, wherever in it the import stands."""
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
    elif isinstance(node, ast.Call) and node.args:
      function = node.func
      called = getattr(function, "attr", getattr(function, "id", ""))
      value = getattr(node.args[0], "value", None)
      if called in ("import_module", "__import__") and isinstance(value, str):
        names.add(value)
  return names


def _violations(importer: str, source: str) -> list[str]:
  targets = {
    _module(name)
    for name in _imported(source)
    if name.split(".")[0] == "lumiere_jax"
  }
  return [
    f"lumiere_jax.{importer} imports lumiere_jax.{target}, but {reason}"
    for target in sorted(targets)
    if (reason := _refusal(importer, target))
  ]


def _sources():
  for path in sorted(PACKAGE.rglob("*.py")):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    yield ".".join(p for p in parts if p != "__init__"), path


def test_imports_go_down_the_layers_only():
  found = []
  for name, path in _sources():
    found += _violations(name, path.read_text(encoding="utf-8"))
  assert not found, "\n" + "\n".join(found)


def test_order_names_only_what_exists():
  modules = {name for name, _ in _sources()}
  listed = {f"{package}.{m}" for package, ms in ORDER.items() for m in ms}
  assert listed <= modules


def test_configs_import_ml_collections_only():
  for path in sorted(CONFIGS.glob("*.py")):
    names = _imported(path.read_text(encoding="utf-8"))
    extra = {n for n in names if n.split(".")[0] != "ml_collections"}
    assert not extra, f"{path.name} imports {sorted(extra)}"


@pytest.mark.parametrize(
  ("importer", "source"),
  [
    ("config.check", "from lumiere_jax.nn import norm"),
    ("config.check", "from lumiere_jax.config.network import UNetConfig"),
    ("config.check", "from lumiere_jax.config import UNetConfig"),
    ("errors", "from lumiere_jax import config"),
    ("nn.norm", "def f():\n  from lumiere_jax.nn import temporal"),
    ("nn.norm", "from lumiere_jax.diffusion import schedule"),
    ("media", "import lumiere_jax.sharding"),
    ("weights", "from lumiere_jax.models.stunet import STUNet"),
    ("models", "from lumiere_jax import data"),
    ("models", "from lumiere_jax.training import step"),
    ("training.step", "import lumiere_jax.models.stunet as s"),
    ("training.step", "import lumiere_jax.evaluation"),
    ("training.step", "from lumiere_jax import inference"),
    ("inference", "from lumiere_jax.training.step import make_step"),
    ("inference", "from lumiere_jax import Lumiere"),
    ("build", "from lumiere_jax.cli import run"),
    ("sample", "from lumiere_jax.train import main"),
    ("media", "importlib.import_module('lumiere_jax.models')"),
  ],
)
def test_a_forbidden_edge_is_caught(importer, source):
  assert _violations(importer, source)


@pytest.mark.parametrize(
  ("importer", "source"),
  [
    ("nn.temporal", "from lumiere_jax.nn.norm import GroupNorm"),
    ("nn.temporal", "from lumiere_jax.config import UNetConfig"),
    ("config", "from lumiere_jax.config.parse import from_dict"),
    ("config.check", "from lumiere_jax.errors import UserError"),
    ("models", "from lumiere_jax.nn import resnet, temporal"),
    ("training.step", "from lumiere_jax.diffusion import loss"),
    ("api", "from lumiere_jax import build"),
    ("sample", "from lumiere_jax import cli"),
    ("", "importlib.import_module('lumiere_jax.api')"),
    ("media", "import numpy"),
  ],
)
def test_an_allowed_edge_is_not(importer, source):
  assert not _violations(importer, source)
