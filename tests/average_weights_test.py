# SPDX-License-Identifier: Apache-2.0
"""Averages of another length, from a run's folder to a weights folder."""

import numpy as np
import pytest

from lumiere_jax import average_weights, build, cli, encoders, train, trees
from lumiere_jax.config import from_dict
from lumiere_jax.errors import UserError
from lumiere_jax.training import snapshots
from lumiere_jax.weights import folder
from tests.data import clip_folder
from tests.models import toy
from tests.text.hash_encoder import HashTextEncoder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The folder of four steps over a part of the toy network's spatial part."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      encoders, "text_encoder", lambda cfg: HashTextEncoder(width=8)
    )
    patch.setattr(cli, "enable_compilation_cache", lambda: None)
    path = tmp_path_factory.mktemp("run")
    start = toy.save(path / "start")
    clips = clip_folder.make(path / "clips", captions="csv", broken=False)
    values = toy.CONFIG | {
      "model": toy.CONFIG["model"] | {"temporal": None},
      "data": {
        "num_frames": 8,
        "size_px": 8,
        "fps": 8,
        "kind": "folder",
        "data_dir": str(clips),
      },
      "train": {
        "trainable": "^mid|conv_out",
        "batch_size": 2,
        "steps": 4,
        "warmup_steps": 0,
        "learning_rate": 0.01,
        "init_from": str(start),
        "posthoc_ema": (0.05, 0.1),
        "posthoc_every": 1,
      },
    }
    train.fit(from_dict(values), path)
  return path


def written(run, out, *flags):
  average_weights.main([f"--workdir={run}", f"--out={out}", *flags])
  params, config, _ = folder.load(out)
  return trees.flatten(params), config


def test_a_stored_length_comes_back_with_what_is_frozen(run, tmp_path, capsys):
  made, config = written(run, tmp_path / "out", "--length=0.1")
  printed = capsys.readouterr().out
  assert printed.startswith("4 snapshots up to step 4, profile off by 0.00%: ")
  shipped, its_config, _ = folder.load(run / "weights")
  assert config == its_config
  licences = [p / "LICENSE" for p in (tmp_path / "out", run / "weights")]
  assert licences[0].read_text() == licences[1].read_text()
  shipped = trees.flatten(shipped)
  last = snapshots.stored(run)[-1]
  average = trees.flatten(snapshots.combined([last], np.array([0.0, 1.0])))
  assert made.keys() == shipped.keys()
  changed = 0
  for name, leaf in made.items():
    assert leaf.dtype == shipped[name].dtype == np.float32
    if name in average:
      np.testing.assert_allclose(leaf, average[name], rtol=1e-5, atol=1e-6)
      changed += bool(np.any(leaf != shipped[name]))
    else:
      np.testing.assert_array_equal(leaf, shipped[name])
  assert 0 < changed <= len(average) < len(made)
  cfg = from_dict(config)
  build.load_params(str(tmp_path / "out"), cfg.model)  # As any weights.


def test_other_lengths_and_steps_lie_between(run, tmp_path):
  short, long, between, before = (
    written(run, tmp_path / name, *flags)[0]
    for name, flags in (
      ("short", ["--length=0.05"]),
      ("long", ["--length=0.1"]),
      ("between", ["--length=0.07"]),
      ("before", ["--length=0.07", "--step=3"]),
    )
  )
  names = [n for n in short if np.any(short[n] != long[n])]
  assert names

  def distance(a, b):
    return sum(float(np.sum((a[n] - b[n]) ** 2)) for n in names) ** 0.5

  whole = distance(short, long)
  assert 0 < distance(short, between) < whole > distance(between, long) > 0
  assert distance(before, between) > 0


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--length=0.1", "--step=9"], r"--step=9 has no .* choices: 1, 2, 3, 4$"),
    (["--length=0.5"], r"--length=0.5 must be in \(0, 0.28\]"),
    (["--length=0"], r"--length=0.0 must be in \(0, 0.28\]"),
    (["--length=0.25"], "off by .*%; lengths between those stored, 0.05, 0.1"),
  ],
)
def test_what_cannot_be_made_is_one_line(run, tmp_path, flags, message):
  with pytest.raises(UserError, match=message) as info:
    written(run, tmp_path / "out", *flags)
  assert "\n" not in str(info.value)
  assert not (tmp_path / "out").exists()


def test_a_run_without_averages_or_weights_is_one_line(run, tmp_path):
  with pytest.raises(UserError, match=r"no averages in .*posthoc_ema"):
    written(tmp_path, tmp_path / "out", "--length=0.1")
  (tmp_path / "averages").symlink_to(run / "averages")
  with pytest.raises(UserError, match=r"no weights in .* ends or is stopped"):
    written(tmp_path, tmp_path / "out", "--length=0.1")
  with pytest.raises(UserError, match="exists and is not empty"):
    written(run, run / "weights", "--length=0.1")


def test_a_damaged_snapshot_is_one_line(run, tmp_path):
  snapshot = tmp_path / "averages" / "3"
  snapshot.mkdir(parents=True)
  (snapshot / "snapshot.json").write_text("{}")
  with pytest.raises(UserError, match=r"cannot read .*snapshot.json"):
    written(tmp_path, tmp_path / "out", "--length=0.1")
