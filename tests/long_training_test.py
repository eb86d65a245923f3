# SPDX-License-Identifier: Apache-2.0
"""Which stage of the long training runs next, and what it starts from."""

import json

import pytest

from lumiere_jax.cli import read_config
from tests import scripts


@pytest.fixture
def script(tmp_path, monkeypatch):
  module = scripts.load("docs/long_training.py")
  monkeypatch.setattr(module, "RECORD", tmp_path / "docs" / "long.json")
  (tmp_path / "docs").mkdir()
  return module


def flags(plan):
  return dict(flag.removeprefix("--").split("=", 1) for flag in plan.flags)


def ship(script, **fields):
  script.RECORD.write_text(json.dumps({"weights": "demo64", **fields}))


def test_stages_follow_one_another(script, tmp_path):
  first, second = script.STAGES[:2]
  assert "init_from" not in flags(script.plan_of(tmp_path, first))
  (tmp_path / first.name / "weights").mkdir(parents=True)
  plan = script.plan_of(tmp_path, second)
  assert flags(plan)["init_from"] == str(tmp_path / first.name / "weights")
  assert plan.step == 0


def test_a_new_machine_goes_on_from_the_shipped_snapshot(script, tmp_path):
  first, second = script.STAGES[:2]
  ship(script, stage=first.name, step=1000)
  plan = script.plan_of(tmp_path, first)
  steps = read_config(first.config)["train"]["steps"]
  assert flags(plan)["init_from"] == "demo64"
  assert flags(plan)["config.train.steps"] == str(steps - 1000)
  assert plan.step == 1000
  ship(script, stage=second.name, step=10)
  assert script.plan_of(tmp_path / "other", first) is None


def test_a_stage_that_has_begun_keeps_its_plan(script, tmp_path):
  first = script.STAGES[0]
  plan = script.plan_of(tmp_path, first)
  ship(script, stage=first.name, step=1000)
  assert script.plan_of(tmp_path, first) == plan


def test_curves_go_on_where_the_snapshot_was_taken(script, tmp_path):
  first = script.STAGES[0]
  ship(script, stage=first.name, step=1000)
  script.plan_of(tmp_path, first)
  curve = script.RECORD.with_name(f"long_{first.name}.jsonl")
  known = [{"step": 500}, {"step": 1000}, {"step": 1500}]
  curve.write_text("".join(json.dumps(line) + "\n" for line in known))
  (tmp_path / first.name).mkdir()
  lines = [{"step": 3}, {"step": 250}, {"step": 260, "eval": {"x": 1.0}}]
  metrics = tmp_path / first.name / "metrics.jsonl"
  metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
  script.record(tmp_path)
  steps = [json.loads(t)["step"] for t in curve.read_text().splitlines()]
  assert steps == [500, 1000, 1250, 1260]


def test_every_stage_has_a_configuration(script):
  names = [stage.name for stage in script.STAGES]
  for stage in script.STAGES:
    assert read_config(stage.config)["train"]["steps"] > 0
    assert not stage.after or names.index(stage.after) < names.index(stage.name)
