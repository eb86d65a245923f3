# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from lumiere_jax.config import TrainConfig
from lumiere_jax.training.log import Logger, truncate_after

CFG = TrainConfig(steps=8, log_every=4, batch_size=16)


def metrics(loss, sums=(0, 0, 0, 0), counts=(0, 0, 0, 0)):
  return {
    "loss": np.float32(loss),
    "loss_sum": np.float32(sums),
    "loss_count": np.float32(counts),
    "grad_norm": np.float32(2 * loss),
    "update_norm": np.float32(0.5),
    "param_norm": np.float32(7),
    "lr": np.float32(loss / 8),
    "taken": np.bool_(True),
    "skipped": np.int32(0),
  }


def lines(workdir):
  text = (workdir / "metrics.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def logger(tmp_path):
  logger = Logger(tmp_path, CFG)
  yield logger
  logger.close()


def test_line_holds_the_means_of_its_steps(tmp_path, logger):
  logger.start(0)
  logger.add(1, metrics(1, (3, 0, 1, 0), (2, 0, 1, 0)), wait=0.0)
  logger.add(2, metrics(2, (9, 0, 2, 0), (1, 0, 1, 0)), wait=0.0)
  logger.add(3, metrics(4), wait=0.0)
  assert lines(tmp_path) == []
  logger.add(4, metrics(8), wait=0.0)
  (line,) = lines(tmp_path)
  assert line["step"] == 4
  assert line["loss"] == 15 / 4
  assert line["grad_norm"] == 30 / 4
  assert line["loss_by_t"] == [4, None, 1.5, None]
  assert line["lr"] == 1


def test_rate_and_waiting_are_of_the_same_seconds(
  tmp_path, logger, monkeypatch
):
  now = [100.0]
  monkeypatch.setattr("time.perf_counter", lambda: now[0])
  logger.start(0)
  for step in range(1, 5):
    if step == 3:
      now[0] += 30.0  # saving a checkpoint, say
      logger.restart_clock()
    now[0] += 2.0
    logger.add(step, metrics(1), wait=0.5)
  (line,) = lines(tmp_path)
  assert line["stills_per_second"] == 8
  assert line["data_wait_share"] == 0.25


def test_resumed_average_is_that_of_an_uninterrupted_run(tmp_path, logger):
  logger.start(0)
  logger.add(1, metrics(0.1), wait=0.0)
  logger.add(2, metrics(0.7), wait=0.0)
  state = json.loads(json.dumps(logger.get_state()))
  for step in (3, 4):
    logger.add(step, metrics(0.3), wait=0.0)
  (straight,) = lines(tmp_path)

  again = Logger(tmp_path, CFG)
  again.set_state(state)
  again.start(2)
  assert lines(tmp_path) == []
  for step in (3, 4):
    again.add(step, metrics(0.3), wait=0.0)
  again.close()
  (resumed,) = lines(tmp_path)
  assert resumed["loss"] == straight["loss"]
  assert resumed["grad_norm"] == straight["grad_norm"]


def test_state_is_a_snapshot(logger):
  logger.start(0)
  state = logger.get_state()
  logger.add(1, metrics(1, (1, 1, 1, 1), (1, 1, 1, 1)), wait=0.0)
  assert state == Logger(".", CFG).get_state()


def test_lines_after_the_restored_step_and_torn_ones_go(tmp_path):
  path = tmp_path / "metrics.jsonl"
  kept = '{"step": 2, "loss": 0.5}\n{"step": 4, "loss": 0.25}\n'
  path.write_text(kept + '{"step": 6, "loss": 0.1}\n{"step": 8, "lo')
  truncate_after(path, 7)
  assert path.read_text() == kept + '{"step": 6, "loss": 0.1}\n'
  truncate_after(path, 4)
  assert path.read_text() == kept
  assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_gets_the_same_numbers(tmp_path, logger, monkeypatch):
  logger.start(0)
  written = {}
  monkeypatch.setattr(
    "tensorboardX.SummaryWriter.add_scalar",
    lambda _, name, value, step: written.update({name: (value, step)}),
  )
  for step in range(1, 5):
    logger.add(step, metrics(1, (1, 2, 3, 0), (1, 1, 1, 0)), wait=0.0)
  logger.add_evaluation(6, {"a/b": 2.0, "c": np.nan})
  assert written["eval/a/b"] == (2, 6)
  assert "eval/c" not in written
  assert written["loss"] == (1, 4)
  assert written["loss_by_t/2"] == (3, 4)
  assert "loss_by_t/3" not in written
  assert list((tmp_path / "tensorboard").iterdir())
