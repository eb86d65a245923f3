# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the loader measures what it says."""

import json

import pytest

from lumiere_jax import benchmark
from lumiere_jax.data import throughput
from lumiere_jax.errors import UserError

SMALL = (
  "--what=loader",
  "--clips=4",
  "--source_px=32",
  "--config.data.num_frames=8",
  "--config.data.size_px=16",
)


@pytest.fixture(autouse=True)
def short(monkeypatch):
  """Videos of one second."""
  inner = throughput.make_videos
  monkeypatch.setattr(
    throughput, "make_videos", lambda *args: inner(*args, seconds=1)
  )


def test_the_result_is_json_of_clips_a_second(tmp_path, capsys):
  out = tmp_path / "t.json"
  benchmark.main([*SMALL, f"--out={out}"])
  result = json.loads(out.read_text())
  assert result["clips"] == 4 and result["frames"] == 8
  assert result["size_px"] == 16
  assert result["source"]["size"] == [32, 56]
  rates = result["throughput"]
  assert rates["frames_per_second"] == 8 * rates["clips_per_second"] > 0
  assert rates["clips_per_core_second"] > 0
  timing = result["time"]
  assert timing["repeats"] == len(timing["each"]) == 4  # Of one clip each.
  low, high = timing["quartiles"]
  assert 0 < low <= timing["median"] <= high
  mean = sum(timing["each"]) / 4
  assert rates["seconds_per_clip"] == pytest.approx(mean)
  assert timing["first"] > 0
  assert "clips_per_core_second" in capsys.readouterr().out
  with pytest.raises(UserError, match="exists already"):
    benchmark.main([*SMALL, f"--out={out}"])


def test_the_first_batch_is_not_timed(monkeypatch):
  seen = []
  inner = throughput.loader.make_loader

  def counting(*args, **kwargs):
    batches = inner(*args, **kwargs)
    read = batches.read
    batches.read = lambda position: seen.append(position) or read(position)
    return batches

  monkeypatch.setattr(throughput.loader, "make_loader", counting)
  benchmark.main(list(SMALL))
  assert seen == [0, 1, 2, 3, 4]


def test_mistakes_are_one_line():
  with pytest.raises(UserError, match="--clips=-1 must be >= 0"):
    benchmark.main(["--what=loader", "--clips=-1"])
  with pytest.raises(UserError, match="--source_px=1 must be >= 16"):
    benchmark.main(["--what=loader", "--source_px=1"])
  with pytest.raises(UserError, match="is no folder"):
    benchmark.main(
      [
        "--what=loader",
        "--config.data.kind=folder",
        "--config.data.data_dir=nowhere",
      ]
    )
