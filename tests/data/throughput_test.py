# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the loader measures what it says."""

import json

import pytest

from lumiere_jax.data import throughput
from lumiere_jax.errors import UserError

SMALL = (
  "--clips=4",
  "--batch_size=2",
  "--source_px=32",
  "--source_seconds=1",
  "--config.data.num_frames=8",
  "--config.data.size_px=16",
)


def test_the_result_is_json_of_clips_a_second(tmp_path, capsys):
  out = tmp_path / "t.json"
  throughput.main([*SMALL, f"--out={out}"])
  result = json.loads(out.read_text())
  assert json.loads(capsys.readouterr().out) == result
  assert result["clips"] == 4 and result["clip"] == [8, 16, 16]
  assert result["source"]["size"] == [32, 56]
  assert result["clips_per_second"] > 0
  assert result["clips_per_core_second"] > 0
  with pytest.raises(UserError, match="exists already"):
    throughput.main([*SMALL, f"--out={out}"])


def test_the_first_batch_is_not_timed(monkeypatch):
  seen = []
  inner = throughput.loader.make_loader

  def counting(*args, **kwargs):
    batches = inner(*args, **kwargs)
    read = batches.read
    batches.read = lambda position: seen.append(position) or read(position)
    return batches

  monkeypatch.setattr(throughput.loader, "make_loader", counting)
  throughput.main(list(SMALL))
  assert seen == [0, 1, 2]


def test_mistakes_are_one_line():
  with pytest.raises(UserError, match="--clips=0 must be > 0"):
    throughput.main(["--clips=0"])
  with pytest.raises(UserError, match="--source_seconds=0 must be > 0"):
    throughput.main(["--source_seconds=0"])
  with pytest.raises(UserError, match="--source_px=1 must be >= 16"):
    throughput.main(["--source_px=1"])
  with pytest.raises(UserError, match="is no folder"):
    throughput.main(
      ["--config.data.kind=folder", "--config.data.data_dir=nowhere"]
    )
