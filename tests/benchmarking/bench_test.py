# SPDX-License-Identifier: Apache-2.0
"""The benchmark end to end, on a network that is quick to compile."""

import json
import time
import types
from dataclasses import replace

import jax
import numpy as np
import pytest
from PIL import Image

from lumiere_jax import benchmark, build, trees
from lumiere_jax.benchmarking import bench, machine, subject
from lumiere_jax.config import SamplerConfig, to_dict
from lumiere_jax.errors import UserError
from lumiere_jax.models import stunet
from lumiere_jax.weights import folder
from tests.plan_test import CONFIG
from tests.profiling import steps

CACHE = "/jax/compilation_cache/cache_"


@pytest.fixture
def config(tmp_path):
  path = tmp_path / "tiny.py"
  path.write_text(CONFIG)
  return f"--config={path}"


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """Matrices and copies that take no time."""
  monkeypatch.setattr(machine, "_SIDE", {"cpu": 64})
  monkeypatch.setattr(machine, "_COPIED", {"cpu": 2**12})


def run(config, tmp_path, *args):
  out = tmp_path / "bench.json"
  benchmark.main([config, "--repeats=2", f"--out={out}", *args])
  return json.loads(out.read_text())


def check(found, clips, steps, equivalent=None):
  """What must hold whatever is timed."""
  equivalent = equivalent or steps
  rates, seconds = found["throughput"], found["time"]["median"]
  assert rates["clips_per_second"] == pytest.approx(clips / seconds)
  assert rates["frames_per_second"] == pytest.approx(4 * clips / seconds)
  assert rates["seconds_per_step"] == pytest.approx(seconds / steps)
  assert rates["seconds_to_first"] > found["compile"]["compile"]
  use, counts = found["utilization"], found["counts"]
  assert counts["steps"] == steps
  assert counts["equivalent_steps"] == equivalent
  achieved = counts["flops_model"] * equivalent / seconds
  assert use["achieved_flops"] == pytest.approx(achieved)
  assert use["mfu"] == pytest.approx(achieved / use["flops"])
  assert use["flops_source"] == "measured, matmul in float32"
  for name, best in (("matmul", "measured_flops"), ("copy", "bandwidth")):
    rounds = use[f"{name}_rounds"]
    assert len(rounds) == (3 if "blocks" in found else 2)
    assert use[best] == max(rounds)
    assert use[f"{name}_spread"] == 1 - min(rounds) / max(rounds)
  start = found["compile"]
  again = start["import_and_build"] + start["second_start"] + seconds
  assert rates["seconds_to_first_again"] == pytest.approx(again)
  assert counts["argument_bytes"] > counts["parameter_bytes"] > 0
  assert found["memory"]["program_peak"] > counts["argument_bytes"] / 2
  assert found["environment"]["versions"]["jax"] == jax.__version__


def test_the_network_and_its_blocks(config, tmp_path, capsys):
  plot = tmp_path / "roofline.png"
  found = run(config, tmp_path, "--clips=2", f"--plot={plot}")
  check(found, clips=2, steps=1)
  blocks = {block["name"]: block for block in found["blocks"]}
  assert list(blocks) == ["down_0", "down_1", "mid", "up_1", "up_0"]
  assert [b["frames"] for b in blocks.values()] == [4, 2, 2, 2, 4]
  assert [b["level"] for b in blocks.values()] == [0, 1, 1, 1, 0]
  # All but the embeddings and the first and last convolutions.
  whole = found["counts"]["flops_compiled_per_device"]
  assert 0.8 < sum(b["flops"] for b in blocks.values()) / whole < 1
  with Image.open(plot) as image:
    assert image.format == "PNG" and image.width > 100
  assert "mid" in capsys.readouterr().out


@pytest.mark.full
def test_a_training_step_has_blocks_with_their_gradients(config, tmp_path):
  found = run(config, tmp_path, "--what=train")
  check(found, clips=2, steps=1)
  forward = tmp_path / "forward"
  forward.mkdir()
  plain = run(config, forward, "--clips=2")
  for block, alone in zip(found["blocks"], plain["blocks"], strict=True):
    assert 2 < block["flops"] / alone["flops"] < 3.5
  assert found["counts"]["flops_model"] > 2 * plain["counts"]["flops_model"]


@pytest.mark.full
def test_a_second_start_traces_again_and_compiles_nothing(
  config, tmp_path, monkeypatch
):
  calls, events = [], []
  inner, start = stunet.STUNet.__call__, bench._second_start

  def counting(*args, **kwargs):
    calls.append(1)
    return inner(*args, **kwargs)

  def watched(subject):
    calls.clear()
    events.clear()
    seconds = start(subject)
    assert calls  # As in a process that has traced nothing yet.
    assert CACHE + "hits" in events and CACHE + "misses" not in events
    return seconds

  monkeypatch.setattr(stunet.STUNet, "__call__", counting)
  monkeypatch.setattr(bench, "_second_start", watched)
  listener = lambda event, **_: events.append(event)  # noqa: E731
  jax.monitoring.register_event_listener(listener)
  try:
    found = run(
      config,
      tmp_path,
      "--what=sample",
      "--clips=2",
      "--no_blocks",
      "--config.sampler.guidance=3.0",
      "--config.sampler.guidance_interval=(0.0, 0.5)",
    )
  finally:
    jax.monitoring.unregister_event_listener(listener)
  check(found, clips=2, steps=3, equivalent=found["counts"]["equivalent_steps"])
  assert "blocks" not in found
  counts = found["counts"]
  assert counts["network_evaluations"] == 2 * counts["equivalent_steps"]
  assert 1.5 <= counts["equivalent_steps"] < 3
  assert found["compile"]["second_start"] > 0


def test_a_guide_is_timed_with_its_network(tmp_path):
  cfg = steps.config("one_level", size_px=8)
  like = build.abstract_params(cfg.model)
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
  folder.save(tmp_path / "worse", zeros, to_dict(cfg), "licence")
  sampler = SamplerConfig(
    name="ddim",
    steps=2,
    guidance=1.0,
    guide=str(tmp_path / "worse"),
    guide_scale=1.5,
  )
  found = subject.find_subject("sample", replace(cfg, sampler=sampler), 2)
  counts = bench.count(found, found.lower())
  assert counts["network_evaluations"] == 4
  assert counts["parameters"] == trees.count(like)
  rest = counts["argument_bytes"] - counts["parameter_bytes"]
  assert rest > counts["parameter_bytes"]  # The guide's.
  assert counts["flops_lowered"] == pytest.approx(
    found.account.as_compiled, rel=0.002
  )
  clips = found.start()()
  assert clips.shape == (2, 8, 8, 3) and np.isfinite(clips).all()


def test_the_command_line_and_what_it_changed_are_recorded(config, tmp_path):
  args = (
    "--count_only",
    "--config.model.remat=blocks",
    "--config.data.fps",
    "0x10",  # As it is.
  )
  found = run(config, tmp_path, *args)
  assert found["argv"][0] == config and found["argv"][-4:] == list(args)
  assert found["overrides"] == {"model.remat": "blocks"}


def test_the_clock_begins_with_the_process(config, tmp_path, capsys):
  began = time.perf_counter() - 1000
  out = tmp_path / "bench.json"
  args = [config, "--repeats=1", "--no_blocks", f"--out={out}"]
  benchmark.main(args, began)
  found = json.loads(out.read_text())
  assert 1000 < found["compile"]["import_and_build"] < 1100
  assert found["throughput"]["seconds_to_first"] > 1000


def test_a_machine_that_does_not_keep_its_speed_is_told_of(capsys):
  steady = {"matmul_rounds": [100e9, 95e9], "copy_rounds": [1e9]}
  assert machine.unsteady(steady) == machine.unsteady({}) == ""
  told = machine.unsteady({**steady, "matmul_rounds": [182e9, 131e9, 170e9]})
  assert "matmul 131 to 182 GFLOP/s" in told
  assert "copy" not in told and "\n" not in told


def test_counting_runs_nothing(config, tmp_path, monkeypatch):
  monkeypatch.setattr(benchmark.bench, "measure", None)
  found = run(config, tmp_path, "--what=train", "--count_only")
  assert set(found["counts"]) >= {"flops_lowered", "argument_bytes"}
  assert "time" not in found


def test_the_cache_is_as_it_was(config, tmp_path):
  before = jax.config.jax_compilation_cache_dir
  run(config, tmp_path, "--no_blocks")
  assert jax.config.jax_compilation_cache_dir == before


def test_the_peak_of_a_known_device_is_the_table_s(monkeypatch):
  device = types.SimpleNamespace(device_kind="NVIDIA H200", platform="gpu")
  monkeypatch.setattr(machine, "_LARGE_SIDE", 64)
  monkeypatch.setattr(machine, "_COPIED_BY_OTHERS", 2**12)
  monkeypatch.setattr(machine.jax, "devices", lambda: [device])
  probe = machine.Probe("float32")
  probe.take()
  peaks = probe.peaks()
  assert peaks.flops == 989.4e12 and peaks.flops_source.startswith("h200")
  assert peaks.named_bandwidth == 4800e9
  assert peaks.measured_flops != peaks.flops


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (["--what=tran"], r"--what='tran' \(did you mean 'train'\?\)"),
    (["--repeats=0"], "--repeats=0 must be >= 1"),
    (["--what=train", "--clips=2"], "set --config.train.batch_size"),
    (["--plot=a.png", "--no_blocks"], "--plot draws the blocks"),
  ],
)
def test_mistakes_are_one_line(config, args, message):
  with pytest.raises(UserError, match=message):
    benchmark.main([config, *args])


def test_a_network_needs_a_config():
  with pytest.raises(UserError, match="--config is needed"):
    benchmark.main(["--what=sample"])
