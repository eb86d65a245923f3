# SPDX-License-Identifier: Apache-2.0
"""What counts as lost when a run goes on."""

import json
import time

import pytest

from lumiere_jax.training.phases import Phases


def first_run(folder, *, settle):
  """Works, saves, works on; returns what it saved."""
  phases = Phases(folder)
  with phases.watch():
    with phases.phase("step"):
      time.sleep(0.05)
    state = json.loads(json.dumps(phases.get_state()))
    with phases.phase("checkpoint"):
      time.sleep(0.1)
    if settle:
      phases.settle()
  return state


@pytest.mark.parametrize("settle", [True, False])
def test_what_follows_the_last_save_is_lost_unless_the_run_ended(
  tmp_path, settle
):
  state = first_run(tmp_path, settle=settle)
  phases = Phases(tmp_path)
  phases.set_state(state)
  seconds = phases.seconds
  assert seconds["step"] == pytest.approx(state["step"])
  assert (seconds["lost"] == 0) == settle
  assert (seconds["checkpoint"] >= 0.1) == settle


def test_a_start_that_finds_all_done_changes_nothing_of_that(tmp_path):
  state = first_run(tmp_path, settle=True)
  for _ in range(2):
    phases = Phases(tmp_path)
    with phases.watch():
      phases.set_state(state)
      phases.settle()
    assert phases.seconds["lost"] == 0


def test_of_an_ended_run_an_older_checkpoint_loses_what_came_after(tmp_path):
  state = first_run(tmp_path, settle=True)
  phases = Phases(tmp_path)
  phases.set_state(state | {"step": 0.0})
  assert phases.seconds["lost"] >= 0.15


@pytest.mark.parametrize(
  "text", ["", "3", "[]", '{"seconds": {}}', '{"seconds": {"step": "x"}}']
)
def test_a_damaged_file_is_no_file(tmp_path, text):
  state = first_run(tmp_path, settle=True)
  (tmp_path / "goodput.json").write_text(text)
  phases = Phases(tmp_path)
  phases.set_state(state)
  assert phases.seconds["lost"] == 0
