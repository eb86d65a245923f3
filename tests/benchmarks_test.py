# SPDX-License-Identifier: Apache-2.0
"""The comparisons of benchmarks/: they run, count right and are told right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import (
  memory,
  ours,
  resampling,
  side_by_side,
  table,
  temporal_forms,
)
from benchmarks.comparison import Size
from lumiere_jax import build, parity, trees
from lumiere_jax.errors import UserError
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.profiling.network import Call, count_network
from lumiere_jax.profiling.work import forward_flops

ROOT = Path(__file__).resolve().parent.parent
TINY = Size(
  frames=4, pixels=8, channels=(8, 16), groups=4, tokens=3, text_width=32
)
FLAGS = (
  "--frames=4",
  "--pixels=8",
  "--channels=8,16",
  "--groups=4",
  "--tokens=3",
  "--text_width=32",
)


def _flops(resample: bool) -> float:
  model = ours.config(TINY, "forward", resample=resample).model
  call = Call(batch=1, frames=4, height=8, width=8, tokens=3)
  return forward_flops(count_network(model, call).layers)


@pytest.mark.full
@pytest.mark.parametrize("work", ["forward", "train_temporal"])
def test_resampling_is_measured_from_end_to_end(work, tmp_path):
  subprocess.run(
    [
      sys.executable,
      "-m",
      "benchmarks.resampling",
      f"--work={work}",
      *FLAGS,
      "--repeats=2",
      "--turns=1",
      f"--out={tmp_path}",
    ],
    cwd=ROOT,
    check=True,
    timeout=600,
  )
  record = json.loads((tmp_path / f"resampling_4_{work}.json").read_text())
  params = build.abstract_params(ours.config(TINY, work).model)
  temporal = trees.count(trees.split(params, is_temporal)[0])
  for side in (record["resampled"], record["plain"]):
    (turn,) = side["turns"]
    assert len(turn["each"]) == 2 and min(turn["each"]) > 0
    assert side["peak_rss_bytes"] > side["program_bytes"]["peak"] > 0
    assert side["frames_per_second"] == 4 / side["median_seconds"]
  assert record["resampled"]["parameters"] == trees.count(params)
  assert record["resampled"]["trained"] == (
    temporal if work == "train_temporal" else 0
  )
  # Every second frame of one of two levels is left out.
  assert 0.5 < record["flops_ratio"] < 1
  if work == "forward":
    assert record["flops_ratio"] == _flops(True) / _flops(False)


def test_operations_of_torch_are_counted_as_ours():
  torch = pytest.importorskip("torch")
  from benchmarks import theirs

  conv = torch.nn.Conv2d(3, 5, 3, padding=1)
  x = torch.randn(2, 3, 8, 8)
  assert theirs.counted(lambda: conv(x)) == 2 * 2 * 8 * 8 * 9 * 3 * 5
  q = torch.randn(1, 2, 7, 4)
  attend = torch.nn.functional.scaled_dot_product_attention
  assert theirs.counted(lambda: attend(q, q, q)) == 2 * 2 * 2 * 7 * 7 * 4


@pytest.mark.parametrize("name", ["motion", "unet3d"])
def test_networks_of_diffusers_are_built_and_train(name):
  torch = pytest.importorskip("torch")
  pytest.importorskip("diffusers")
  from benchmarks import peers, theirs

  peer = peers.PEERS[name](TINY)
  clip = torch.randn(1, 3, 4, 8, 8)
  trained = theirs.prepare(peer, "train_temporal")
  assert 0 < len(trained) < len(peer.parameters)
  peer.call(clip).square().mean().backward()
  with_gradient = [p for p in peer.parameters if p.grad is not None]
  assert len(with_gradient) == len(trained)
  assert not theirs.prepare(peer, "forward")
  outputs = [
    peer.call(theirs.lay_out(peer, clip, layout)) for layout in theirs.LAYOUTS
  ]
  assert outputs[0].shape == clip.shape
  torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ("module", "argv", "message"),
  [
    (resampling, ["--repeats=0"], "--repeats: '0' must be a whole number >= 1"),
    (resampling, ["--turns=0"], "--turns: '0' must be a whole number >= 1"),
    (resampling, ["--channels=8,b"], "--channels: 'b' must be a whole number"),
    (resampling, ["--frames=7"], "data.num_frames=7 must be a multiple"),
    (resampling, ["--pixels=7"], "data.size_px=7 must be a multiple"),
    (resampling, ["--groups=3"], "model.norm_num_groups=3 must divide"),
    (memory, ["--sizes", "banana"], "'banana' must be frames x pixels"),
    (memory, ["--policies", "all"], "invalid choice: 'all'"),
    (memory, ["--repeats=0"], "--repeats: '0' must be a whole number >= 1"),
    (memory, ["--out=no/where.json"], "there is no folder no"),
    (temporal_forms, ["--out=a.json", "--repeats=0"], "'0' must be a whole"),
    (temporal_forms, ["--out=no/a.json"], "there is no folder no"),
    (table, ["--out=a.json"], "unrecognized arguments: --out=a.json"),
  ],
)
def test_mistakes_are_one_line(module, argv, message):
  with pytest.raises(UserError, match=message) as told:
    module.main(argv)
  assert "\n" not in str(told.value)


def test_a_peer_that_is_not_installed_is_told(monkeypatch):
  monkeypatch.setattr(parity, "missing_packages", lambda *names: names[1:])
  message = "needs lumiere_pytorch, denoising_diffusion_pytorch: benchmarks/"
  with pytest.raises(UserError, match=message):
    side_by_side.main(["--peer=lumiere_pytorch"])


ENVIRONMENT = {
  "versions": {"jax": "0.10.2"},
  "processor": "some",
  "cores": 2,
  "device": "cpu",
  "devices": 1,
  "date": "2026-11-29",
}
ROW = {"size": "16x32", "remat": "none", "environment": ENVIRONMENT}


def measured(tmp_path, monkeypatch, *args, rows=(ROW,), here=ENVIRONMENT):
  """What benchmarks.memory measures beside rows that are there."""
  path = tmp_path / "memory.json"
  path.write_text(
    json.dumps({"config": "configs/demo_t2v.py", "rows": list(rows)})
  )
  made = []

  def row(config, size, policy, repeats):
    made.append((size, policy))
    return {"size": size, "remat": policy, "environment": here}

  monkeypatch.chdir(ROOT)
  monkeypatch.setattr(memory, "_row", row)
  monkeypatch.setattr(memory, "_environment", lambda: here)
  memory.main([f"--out={path}", "--policies", "none", *args])
  assert len(json.loads(path.read_text())["rows"]) == len(rows) + len(made)
  return made


def test_rows_of_memory_that_are_there_are_kept_and_told(
  tmp_path, monkeypatch, capsys
):
  sizes = "--sizes", "16x32", "40x32"
  assert measured(tmp_path, monkeypatch, *sizes) == [("40x32", "none")]
  told = capsys.readouterr().err
  assert "kept: 16x32 none, measured 2026-11-29 on some, 2 cores" in told
  assert "nothing" not in told
  assert not measured(tmp_path, monkeypatch, *sizes[:2])
  assert "nothing is measured" in capsys.readouterr().err


@pytest.mark.parametrize(
  "changes", [{"processor": "other"}, {"cores": 4}, {"versions": {"jax": "1"}}]
)
def test_memory_of_several_machines_is_not_in_one_file(
  tmp_path, monkeypatch, changes
):
  here = {**ENVIRONMENT, **changes}
  with pytest.raises(
    UserError, match="has rows of some, 2 cores, 1 x cpu, jax"
  ):
    measured(tmp_path, monkeypatch, "--sizes", "40x32", here=here)
  with pytest.raises(UserError, match=r"has rows of --config=configs/demo_t2v"):
    measured(tmp_path, monkeypatch, "--config=configs/demo_t2i.py")
  with pytest.raises(UserError, match=r"is no result of benchmarks\.memory"):
    measured(tmp_path, monkeypatch, rows=[{"size": "16x32"}])


def test_nothing_that_is_installed_brings_torchvision():
  """The index's torchvision does not load beside torch for CPUs."""
  text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
  for name, flags in (("requirements", ""), ("no_deps", "--no-deps ")):
    assert f"pip install {flags}-r benchmarks/{name}.txt\n" in text
  lines = {
    name: (ROOT / "benchmarks" / f"{name}.txt").read_text().splitlines()
    for name in ("requirements", "no_deps")
  }
  pins = {
    name: [line for line in found if not line.startswith("#")]
    for name, found in lines.items()
  }
  assert all("==" in pin for found in pins.values() for pin in found)
  assert [pin.partition("==")[0] for pin in pins["no_deps"]] == [
    "denoising-diffusion-pytorch"
  ]


@pytest.mark.parametrize("name", sorted(table.documents()))
def test_documents_show_what_was_measured(name):
  text = (ROOT / "docs" / name).read_text(encoding="utf-8")
  for lines in table.documents()[name]:
    assert len(lines) > 2
    assert "\n".join(lines) in text


def test_shares_of_the_finest_level_are_of_the_same_whole():
  path = ROOT / "benchmarks" / "results" / "runs" / "demo-forward.json"
  blocks = json.loads(path.read_text())["blocks"]
  time, operations = (
    sum(b[key] for b in blocks if b["level"] == 0) / sum(b[key] for b in blocks)
    for key in ("seconds", "flops")
  )
  text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
  assert (
    f"the finest level has {time:.0%} of the time and {operations:.0%} "
    "of the operations"
  ) in " ".join(text.split())


def test_side_by_side_has_the_command_of_each_row():
  text = (ROOT / "docs" / "side_by_side.md").read_text(encoding="utf-8")
  records = [r for r in table.read() if "command" in r]
  assert records
  assert all(r["command"] in text for r in records)
