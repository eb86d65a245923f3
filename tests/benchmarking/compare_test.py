# SPDX-License-Identifier: Apache-2.0
"""The regression gate: what is judged, by what, and the exit status."""

import copy
import json

import pytest

from lumiere_jax import benchmark
from lumiere_jax.benchmarking.compare import compare
from lumiere_jax.errors import UserError

RESULT = {
  "config": "tiny",
  "what": "forward",
  "clips": 1,
  "frames": 4,
  "size_px": 8,
  "dtype": "float32",
  "environment": {
    "versions": {"jax": "0.10.2"},
    "device": "cpu",
    "devices": 1,
    "processor": "some",
    "cores": 2,
  },
  "counts": {"parameters": 10, "argument_bytes": 80, "flops_lowered": 1000},
  "throughput": {"seconds_per_clip": 1.0, "frames_per_second": 4.0},
}


def changed(part, name, value):
  result = copy.deepcopy(RESULT)
  (result[part] if part else result)[name] = value
  return result


def run(tmp_path, after, *args):
  paths = tmp_path / "a.json", tmp_path / "b.json"
  for path, result in zip(paths, (RESULT, after), strict=True):
    path.write_text(json.dumps(result))
  benchmark.main([f"--compare={paths[0]},{paths[1]}", *args])


def test_what_is_equal_or_better_passes(tmp_path, capsys):
  run(tmp_path, RESULT)
  assert "counts.flops_lowered" in capsys.readouterr().out
  run(tmp_path, changed("throughput", "seconds_per_clip", 0.5))
  run(tmp_path, changed("counts", "flops_lowered", 900))


@pytest.mark.parametrize(
  ("part", "name", "value"),
  [
    ("throughput", "seconds_per_clip", 1.11),
    ("counts", "flops_lowered", 1002),
    ("counts", "argument_bytes", 84),
  ],
)
def test_what_is_worse_ends_with_status_1(tmp_path, capsys, part, name, value):
  with pytest.raises(SystemExit) as ended:
    run(tmp_path, changed(part, name, value))
  assert ended.value.code == 1
  lines = capsys.readouterr().out.splitlines()
  assert [x.split()[0] for x in lines if x.endswith("  worse")] == [
    f"{part}.{name}"
  ]
  flag = "count_tolerance" if part == "counts" else "tolerance"
  run(tmp_path, changed(part, name, value), f"--{flag}=0.2")


@pytest.mark.parametrize(
  ("name", "value", "judged"),
  [("cores", 4, "counts"), ("versions", {"jax": "0.12.0"}, "throughput")],
)
def test_times_are_of_one_machine_and_counts_of_one_jax(name, value, judged):
  rows = compare(RESULT, changed("environment", name, value), 0.1, 0.001)
  assert {r.name.split(".")[0] for r in rows if r.tolerance is not None} == {
    judged
  }


def test_different_things_are_not_compared(tmp_path):
  with pytest.raises(UserError, match="frames is 4 and 8"):
    run(tmp_path, changed(None, "frames", 8))
  with pytest.raises(UserError, match="no result of this benchmark"):
    run(tmp_path, {"counts": 3})
  with pytest.raises(UserError, match="must be two files: A,B"):
    benchmark.main(["--compare=a.json"])
  with pytest.raises(UserError, match="cannot read the result"):
    benchmark.main(["--compare=nowhere.json,b.json"])
