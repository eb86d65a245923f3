# SPDX-License-Identifier: Apache-2.0
"""The comparisons of benchmarks/: they run, count right and are told right."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import ours, table
from benchmarks.comparison import Size
from lumiere_jax import build, trees
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


@pytest.mark.parametrize(
  "work",
  ["forward", pytest.param("train_temporal", marks=pytest.mark.full)],
)
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


@pytest.mark.parametrize("name", sorted(table.documents()))
def test_documents_show_what_was_measured(name):
  text = (ROOT / "docs" / name).read_text(encoding="utf-8")
  for lines in table.documents()[name]:
    assert len(lines) > 2
    assert "\n".join(lines) in text


def test_side_by_side_has_the_command_of_each_row():
  text = (ROOT / "docs" / "side_by_side.md").read_text(encoding="utf-8")
  records = [r for r in table.read() if "command" in r]
  assert records
  assert all(r["command"] in text for r in records)
