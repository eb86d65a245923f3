# SPDX-License-Identifier: Apache-2.0
"""docs/evaluation.md says what docs/runs holds."""

import json
from pathlib import Path

import pytest

from lumiere_jax.scoring.card import Card
from tests import scripts

DOCS = Path(__file__).resolve().parent.parent / "docs"
TABLES = {"scores.json": ("",), "scores_frames.json": ("EffNet",)}


@pytest.mark.parametrize("name", TABLES)
def test_its_tables_are_those_of_the_results(name):
  made = scripts.load(DOCS / "score_table.py")
  table = made.table(DOCS / "runs" / name, TABLES[name])
  assert table.count("\n") > 2
  assert table in (DOCS / "evaluation.md").read_text(encoding="utf-8")


def test_a_table_holds_scores_without_an_interval(tmp_path):
  row = {"value": 21.345, "std": 0.61, "card": {"score": "IS"}}
  file = tmp_path / "scores.json"
  file.write_text(json.dumps({"rows": {"generated": [row], "real": [row]}}))
  table = scripts.load(DOCS / "score_table.py").table(file)
  assert table.splitlines()[-1] == "| IS | 21 (std 0.61) | 21 (std 0.61) |"


@pytest.mark.parametrize("name", TABLES)
def test_the_cards_of_results_are_whole(name):
  rows = json.loads((DOCS / "runs" / name).read_text(encoding="utf-8"))["rows"]
  cards = [row["card"] for scores in rows.values() for row in scores]
  for card in cards:
    assert Card.from_dict(card).hash == card["hash"]
    assert not card["score"].startswith(("FVD", "KVD"))


def test_the_losses_of_both_initialisations_are_those_of_the_runs():
  text = (DOCS / "evaluation.md").read_text(encoding="utf-8")
  made = scripts.load(DOCS / "loss_curves.py")
  for name in ("identity", "identity_2", "he", "he_2"):
    held_out = made.held_out_losses(DOCS / "runs" / f"init_{name}.jsonl")
    for step in (20, 200):
      assert f"{held_out[step]:.4f}" in text
