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
  "overrides": {},
  "environment": {
    "versions": {"jax": "0.10.2"},
    "device": "cpu",
    "devices": 1,
    "processor": "some",
    "cores": 2,
  },
  "counts": {
    "parameters": 10,
    "argument_bytes": 80,
    "flops_lowered": 1000,
    "steps": 12,
    "network_evaluations": 20,
  },
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


def test_nothing_that_is_judged_is_a_failure(tmp_path, capsys):
  after = changed("environment", "cores", 4)
  after["environment"]["versions"] = {"jax": "0.12.0"}
  with pytest.raises(UserError, match="could be judged: cores is 2 and 4, ver"):
    run(tmp_path, after)
  assert "(not judged)" in capsys.readouterr().out


def test_different_things_are_not_compared(tmp_path):
  with pytest.raises(UserError, match="frames is 4 and 8"):
    run(tmp_path, changed(None, "frames", 8))
  for name in ("steps", "network_evaluations"):
    with pytest.raises(UserError, match=f"counts.{name} is "):
      run(tmp_path, changed("counts", name, 50))
  with pytest.raises(UserError, match="must be two files: A,B"):
    benchmark.main(["--compare=a.json"])
  with pytest.raises(UserError, match="cannot read the result"):
    benchmark.main(["--compare=nowhere.json,b.json"])


def test_fields_of_the_config_that_the_work_sees_must_agree(tmp_path):
  with pytest.raises(
    UserError, match=r"--config.model.remat is the config's own and 'convs'"
  ):
    run(tmp_path, changed("overrides", "model.remat", "convs"))
  run(tmp_path, changed("overrides", "train.batch_size", 7))
  both = [changed(None, "what", "train") for _ in range(2)]
  both[1]["overrides"]["train.remat"] = 7
  with pytest.raises(UserError, match="and 7"):
    compare(*both, 0.1, 0.1)


@pytest.mark.parametrize(
  ("value", "message"),
  [
    (None, "the second result has no counts.flops_lowered, which is compared"),
    (float("nan"), "the second result has counts.flops_lowered=nan"),
    (float("inf"), "the second result has counts.flops_lowered=inf"),
    ("many", "the second result is damaged: counts.flops_lowered is 'many'"),
    (True, "the second result is damaged: counts.flops_lowered is True"),
  ],
)
def test_a_figure_that_is_none_is_no_pass(tmp_path, value, message):
  with pytest.raises(UserError, match=message):
    run(tmp_path, changed("counts", "flops_lowered", value))


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    ({"counts": 3}, "damaged: counts is 3"),
    ({"environment": None}, "damaged: environment is None"),
    ({"environment": {}}, "damaged: environment.device is None"),
    ({"throughput": []}, r"damaged: throughput is \[\]"),
  ],
)
def test_damaged_results_are_told_in_one_line(tmp_path, damage, message):
  with pytest.raises(UserError, match=message):
    run(tmp_path, {**RESULT, **damage})


def test_other_and_older_files_are_no_results(tmp_path):
  with pytest.raises(UserError, match="no result of this benchmark"):
    run(tmp_path, {"rows": []})
  older = {k: v for k, v in RESULT.items() if k != "overrides"}
  with pytest.raises(UserError, match="older version of this benchmark"):
    run(tmp_path, older)


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--compare=", "--compare is empty; it must name a file"),
    ("--out=", "--out is empty; it must name a file"),
    ("--plot=", "--plot is empty; it must name a file"),
    ("--tolerance=-1", "--tolerance=-1.0 must be >= 0"),
  ],
)
def test_flags_without_a_value_are_refused(flag, message):
  with pytest.raises(UserError, match=message):
    benchmark.main(["--config=configs/demo.py", "--count_only", flag])
