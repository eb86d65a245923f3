# SPDX-License-Identifier: Apache-2.0
"""The document of the samplers' steps says what was measured."""

import re
from pathlib import Path

from lumiere_jax import cli
from lumiere_jax.config import from_dict, to_dict
from lumiere_jax.linked import weights_config
from tests import scripts

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "sampler_steps.md"


script = scripts.load("docs/sampler_steps.py")
LINES = script.read_lines()


def _demo():
  file = cli.read_config(str(ROOT / "configs" / "demo.py"))
  return from_dict(weights_config("demo", file))


def test_the_table_is_that_of_the_lines():
  text = DOCUMENT.read_text(encoding="utf-8")
  found = re.search(r"^\| sampler \|.*\n(?:\|.*\n)+", text, re.MULTILINE)
  assert found[0].strip() == script.table(LINES)


def test_every_case_was_measured_once():
  lines = script.LINES.read_text(encoding="utf-8").splitlines()
  assert len(lines) == len(LINES)
  wanted = {*script.cases(None, None), script.Case(script.REAL, 0)}
  assert set(LINES) == wanted


def test_lines_differ_in_the_sampler_alone():
  demo = to_dict(_demo())["sampler"]
  unset = to_dict(from_dict({}))["sampler"]
  for case, row in LINES.items():
    if case.sampler == script.REAL:
      continue
    made_with = {**row["made_with"]}
    sampler = made_with.pop("sampler")
    case_alone = {"name": case.sampler, "steps": case.steps}
    # Fields that have come since then stand as they do by themselves.
    since = {k: v for k, v in unset.items() if k not in sampler}
    assert since | sampler == _plain(demo | case_alone)
    assert made_with == {
      name: value
      for name, value in LINES[script.CONVERGED]["made_with"].items()
      if name != "sampler"
    }


def _plain(values):
  """As JSON gives it back."""
  return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def test_the_default_is_a_case_that_was_measured():
  sampler = _demo().sampler
  assert script.Case(sampler.name, sampler.steps) in LINES


def test_evaluations_count_guided_steps_twice():
  config = _demo()
  # Trailing steps of a quarter: 999, 749 and 499 are within 400 to 1000.
  assert script.evaluations(_with(config, steps=4)) == 4 + 3
  assert script.evaluations(_with(config, steps=50)) == 50 + 30


def _with(config, **sampler):
  changed = to_dict(config)
  changed["sampler"] |= sampler
  return from_dict(changed)
