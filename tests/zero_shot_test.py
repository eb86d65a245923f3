# SPDX-License-Identifier: Apache-2.0
"""The zero-shot program, on networks that are small or fake."""

import json
import re
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lumiere_jax import Lumiere, extractors, media, zero_shot
from lumiere_jax.errors import UserError
from lumiere_jax.inference.prompt import Request
from lumiere_jax.scoring import canaries
from lumiere_jax.scoring import zero_shot as protocol
from lumiere_jax.scoring.card import Card
from tests import zero_shot_run
from tests.training.processes import (
  finish,
  launched,
  told_of_each_other,
  wait_for,
)
from tests.zero_shot_run import FRAMES, write_model, write_network

ROOT = Path(__file__).resolve().parent.parent
CLIPS = 12
REAL = 13
CONFIG = """
import ml_collections
def get_config():
  return ml_collections.ConfigDict(dict(
    name="toy", weights={weights!r}, protocol=dict(
      clips={clips}, frames={frames}, i3d={i3d!r}, c3d={c3d!r}, real={real!r},
      work="nowhere")))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  """Weights, networks, real clips, and a config file that names them."""
  root = tmp_path_factory.mktemp("zero_shot")
  with pytest.MonkeyPatch.context() as patched:
    zero_shot_run.patch(patched.setattr)
    write_model(root / "model")
    write_network(root / "i3d", "i3d")
    write_network(root / "small", "small")
    write_network(root / "c3d", "c3d", classes=101)
    write_network(root / "sports", "c3d", classes=487)
  for number in range(REAL):
    folder = root / "real" / f"Class{number // 4}"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    clip = rng.integers(0, 256 - 9 * number, (5, 16, 16, 3), np.uint8)
    media.write_mp4(folder / f"v_{number:02d}.mp4", clip, 25)
  short = np.zeros((FRAMES - 1, 16, 16, 3), np.uint8)
  short[:, ::2] = np.arange(FRAMES - 1)[:, None, None, None]
  media.write_mp4(root / "real" / "Class0" / "short.mp4", short, 25)
  (root / "real" / "Class1" / "damaged.mp4").write_bytes(b"RIFF")
  names = {n: str(root / n) for n in ("i3d", "c3d", "real")}
  text = CONFIG.format(
    weights=str(root / "model"), clips=CLIPS, frames=FRAMES, **names
  )
  (root / "config.py").write_text(text)
  return root


@pytest.fixture
def patched(monkeypatch):
  zero_shot_run.patch(monkeypatch.setattr)


def arguments(files, out, **fields):
  """The command that writes out/result.json; fields of its protocol."""
  fields = {"work": out / "work", **fields}
  return [
    f"--config={files / 'config.py'}",
    f"--out={out / 'result.json'}",
    "--rounds=20",
    "--allow_small",
    *(f"--config.protocol.{name}={value}" for name, value in fields.items()),
  ]


def program(files, out, *flags, **fields):
  zero_shot.main([*arguments(files, out, **fields), *flags])
  return json.loads((out / "result.json").read_text())


def kept(work):
  """All features of a folder of work, by file."""
  found = {}
  for path in sorted(Path(work).rglob("*.npz")):
    with np.load(path) as arrays:
      found[path.relative_to(work).as_posix()] = arrays["features"]
  return found


def same(one, other):
  assert one.keys() == other.keys()
  for name, value in one.items():
    np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture(scope="module")
def straight(files, tmp_path_factory):
  """Features, result and folder of a run that nothing stopped."""
  out = tmp_path_factory.mktemp("straight")
  with pytest.MonkeyPatch.context() as patched:
    zero_shot_run.patch(patched.setattr)
    result = program(files, out, keep_clips=True)
  return kept(out / "work"), result, out


def test_scores_have_cards_and_a_floor(straight):
  features, result, _ = straight
  spoilt = len(canaries.CANARIES) * (REAL // 2)
  assert len(features) == 2 * (CLIPS + REAL) + spoilt
  rows = result["rows"]
  names = {
    name: [row["card"]["score"] for row in scores]
    for name, scores in rows.items()
  }
  assert names == {
    "generated": ["FVD", "IS"],
    "generated, half": ["FVD"],
    "real": ["FVD", "IS"],
    **{name: ["FVD"] for name in canaries.CANARIES},
  }
  fvd, score = rows["generated"]
  assert fvd["interval"][0] < fvd["interval"][1] and "infinite" in fvd
  assert rows["real"][0]["value"] < rows["generated, half"][0]["value"]
  # The network of the test sees how much frames change.
  assert rows["frozen"][0]["value"] > 2 * rows["real"][0]["value"]
  card = Card.from_dict(fvd["card"])
  counts = (card.real, card.generated, card.frames, card.dimensions)
  assert counts == (REAL, CLIPS, FRAMES, zero_shot_run.WIDTH)
  assert "real clips as is" in card.clip_rule and card.fps == 16
  card = Card.from_dict(score["card"])
  assert (card.real, card.generated, card.splits) == (0, CLIPS, 10)
  assert (card.dimensions, card.network) == (101, "c3d")
  real = Card.from_dict(rows["real"][1]["card"])
  assert (real.real, real.generated) == (REAL, 0)
  assert 1 <= score["value"] <= 101 and score["std"] >= 0


def test_what_is_not_scored_is_told(straight):
  _, result, _ = straight
  assert result["clips"] == {"made": CLIPS, "of": 10_235}
  assert set(result["left_out"]["real"]) == {
    "Class0/short.mp4",
    "Class1/damaged.mp4",
  }
  assert result["departures"] == ["clips=12, not 10235", "frames=4, not 16"]
  assert result["made_with"]["seed"] == 0
  assert result["made_with"]["sampler"]["steps"] > 0
  assert len(result["made_with"]["weights_fingerprint"]) == 64
  reference = result["rows"]["generated"][0]["card"]["reference"]
  assert reference.startswith("UCF-101, files ")
  assert result["published"]["note"] == zero_shot.NOT_OURS
  assert result["published"]["rows"]["PYoCo"] == {"FVD": 355.19, "IS": 47.76}
  text = zero_shot.format_result(result)
  for line in (
    "12 clips were made; the protocol has 10,235",
    "2 real clips were left out, the first: ",
    "not as published: clips=12, not 10235; frames=4, not 16",
    "published: other people's measurements, not measured here",
    "PYoCo              355.19    47.76",
    "SVD                242.02        -",
    result["rows"]["generated"][0]["card"]["hash"],
  ):
    assert line in text, text


def test_a_clip_depends_on_its_number_alone(straight, files, patched):
  features, _, out = straight
  model = Lumiere.load(str(files / "model"))
  networks = [extractors.load(str(files / n)) for n in ("i3d", "c3d")]
  categories = protocol.shuffled_clips(CLIPS, 0)
  for number in (0, 7):
    request = Request(categories[number].prompt, number)
    clip = model.run([request], seed=0)[0]
    path = out / "work" / "clips" / f"{number:05d}.npy"
    np.testing.assert_array_equal(np.load(path), clip)
    for network in networks:
      name = f"{network.kind}-{network.fingerprint[:12]}/{number:05d}.npz"
      np.testing.assert_array_equal(
        features[f"generated/{name}"], network(clip[:FRAMES])
      )


def test_every_tenth_of_the_clips_has_about_the_classes_of_all():
  clips = protocol.shuffled_clips(10_235, seed=0)
  assert Counter(clips) == Counter(protocol.clips_to_make())
  for part in np.array_split(np.arange(len(clips)), 10):
    assert len({clips[i].name for i in part}) == 101
  assert clips == protocol.shuffled_clips(10_235, seed=0)
  assert clips != protocol.shuffled_clips(10_235, seed=1)


def test_a_stopped_run_goes_on_where_it_was(
  straight, files, patched, tmp_path, monkeypatch
):
  """And in batches of three; what is there already is not made again."""
  work, made, run = tmp_path / "work", [], Lumiere.run

  def counted(self, batch, **options):
    made.append([request.sample_id for request in batch])
    if len(made) == 3:
      raise KeyboardInterrupt
    return run(self, batch, **options)

  monkeypatch.setattr(Lumiere, "run", counted)
  with pytest.raises(KeyboardInterrupt):
    program(files, tmp_path, batch=3)
  before = kept(work)
  assert len(before) == 2 * 6
  assert not (tmp_path / "result.json").exists()
  spoilt = work / next(name for name in before if name.endswith("00004.npz"))
  spoilt.write_bytes(spoilt.read_bytes()[:-20])
  result = program(files, tmp_path, batch=3)
  numbers = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
  assert made == [*numbers, numbers[1], numbers[2], [9, 10, 11]]
  close(kept(work), straight[0])
  assert result["clips"]["made"] == CLIPS
  # All is there: nothing is made, and the result is the same.
  (tmp_path / "result.json").unlink()
  assert program(files, tmp_path, batch=3) == result
  assert len(made) == 6


def close(one, other):
  """Batches of another size may round otherwise."""
  assert one.keys() == other.keys()
  for name, value in one.items():
    np.testing.assert_allclose(
      value, other[name], rtol=0, atol=0.05, err_msg=name
    )


def test_kept_clips_are_shown_to_a_network_that_comes_later(
  straight, files, patched, tmp_path, monkeypatch
):
  _, wanted, out = straight
  work = tmp_path / "work"
  fields = {"i3d": "", "c3d": "", "keep_clips": True}
  result = program(files, tmp_path, **fields)
  assert result["rows"] == {"generated": []}
  assert result["left_out"]["scores"] == {
    "FVD": "protocol.i3d is empty",
    "IS": "protocol.c3d is empty",
  }
  assert "FVD was not measured" in zero_shot.format_result(result)
  path = work / "clips" / "00002.npy"
  path.write_bytes(path.read_bytes()[:-1])
  path = path.with_name("00003.npy")
  np.save(path, np.load(path) / 255)
  made, run = [], Lumiere.run

  def counted(self, batch, **options):
    made.extend(batch)
    return run(self, batch, **options)

  monkeypatch.setattr(Lumiere, "run", counted)
  (tmp_path / "result.json").unlink()
  result = program(files, tmp_path, keep_clips=True)
  assert [request.sample_id for request in made] == [2, 3]
  assert result["rows"] == wanted["rows"]
  for path in sorted((work / "clips").glob("*.npy")):
    np.testing.assert_array_equal(
      np.load(path), np.load(out / "work" / "clips" / path.name)
    )


def test_generated_clips_are_scored_without_real_ones(
  straight, files, patched, tmp_path
):
  work = straight[2] / "work"
  result = program(files, tmp_path, i3d="", real="", work=work)
  wanted = straight[1]["rows"]["generated"][1]
  assert result["rows"] == {"generated": [wanted]}
  told = result["left_out"]["scores"]
  assert set(told) == {"FVD", "IS of real clips"}


def test_another_network_has_scores_of_its_own_name(files, patched, tmp_path):
  result = program(
    files, tmp_path, i3d=files / "small", c3d="", clips=4, seed=3
  )
  (row,) = result["rows"]["generated"]
  assert row["card"]["score"] == "Small-FD" and row["card"]["seed"] == 3
  assert set(result["left_out"]["scores"]) == {"IS"}


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (["--config=configs/demo.py"], "demo.py has no protocol"),
    (["clips=1"], "protocol.clips=1 must be >= 2"),
    (["clips=a"], "protocol.clips='a' must be of type int"),
    (["clisp=3"], r"unknown config field 'clisp' \(did you mean 'clips'"),
    (["seed=-1"], "protocol.seed=-1 must be in 0"),
    (["real_fps=-1"], "protocol.real_fps=-1.0 must be from 0"),
    (["frames=9"], "protocol.frames=9 are more than the 8 of a clip"),
    (["frames=1"], "protocol.frames=1 with protocol.i3d=.* sees 2 frames"),
    (["i3d=", "c3d="], "are both empty, so that nothing would be scored"),
    (["real="], "protocol.real is empty: a Frechet distance needs"),
    (["real=nowhere"], "nowhere is no folder of clips"),
    (["c3d=SMALL"], "holds 'small'; the Inception Score needs 'c3d'"),
    (["c3d=SPORTS"], "knows 487 classes; the Inception Score is over"),
    (["i3d=nowhere"], "cannot read nowhere/config.json"),
    (["clips=9"], "protocol.clips=9 cannot be split into the 10 parts"),
    (["--rounds=3"], "--rounds=3 must be >= 20"),
    (["--weights=nowhere"], "no weights in 'nowhere'"),
    (["--config.sampler.steps=0"], "sampler.steps=0"),
    (["--config.protocol=3"], "protocol=3 must be a group of fields"),
  ],
)
def test_mistakes_are_one_line_and_leave_nothing(
  files, patched, tmp_path, flags, message
):
  names = {"SMALL": files / "small", "SPORTS": files / "sports"}
  for name, path in names.items():
    flags = [flag.replace(name, str(path)) for flag in flags]
  flags = [
    flag if flag.startswith("--") else f"--config.protocol.{flag}"
    for flag in flags
  ]
  with pytest.raises(UserError, match=message) as error:
    program(files, tmp_path, *flags)
  assert "\n" not in str(error.value)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({}, "12 clips are too few for a stable covariance of 6 dimensions"),
    (
      {"i3d": ""},
      "clips=12 are too few for an Inception Score of 10 parts with 101",
    ),
  ],
)
def test_too_few_clips_are_refused_before_any_is_made(
  files, patched, tmp_path, monkeypatch, fields, message
):
  monkeypatch.setattr("lumiere_jax.scoring.enough.CLIPS_PER_DIMENSION", 3)
  flags = arguments(files, tmp_path, **fields)
  flags.remove("--allow_small")
  with pytest.raises(UserError, match=message):
    zero_shot.main(flags)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"seed": 1}, "made with seed=0, not 1"),
    ({"clips": 13}, "made with clips=12, not 13"),
  ],
)
def test_clips_of_something_else_are_not_mixed_in(
  straight, files, patched, tmp_path, fields, message
):
  work = straight[2] / "work"
  with pytest.raises(UserError, match=message):
    program(files, tmp_path, work=work, **fields)
  with pytest.raises(UserError, match="made with sampler="):
    program(files, tmp_path, "--config.sampler.steps=3", work=work)
  same(kept(work), straight[0])


def test_other_real_clips_are_not_mixed_in(straight, files, patched, tmp_path):
  (tmp_path / "real").mkdir()
  for part in ("Class0", "Class1"):
    for path in (files / "real" / part).iterdir():
      (tmp_path / "real" / f"{part}_{path.name}").write_bytes(path.read_bytes())
  with pytest.raises(UserError, match="made with files=15, not"):
    program(
      files,
      tmp_path,
      work=straight[2] / "work",
      real=tmp_path / "real",
      keep_clips=True,
    )


def test_a_result_is_not_overwritten(straight, files, patched, monkeypatch):
  """And it is told before anything is loaded."""
  out = straight[2]
  monkeypatch.setattr(zero_shot, "load", None)
  before = (out / "result.json").read_bytes()
  with pytest.raises(UserError, match="exists already"):
    program(files, out)
  assert (out / "result.json").read_bytes() == before


def started(arguments, log, count=1, pace=0.0):
  """The processes of a run, as a launcher would start them."""
  envs = [env | {"PACE": str(pace)} for env in told_of_each_other(count)]
  return launched([zero_shot_run.__file__, *arguments], log, envs)


def test_what_one_process_began_two_finish(straight, files, tmp_path):
  """The first is killed; features are those of one that was not, and scores."""
  flags, work = arguments(files, tmp_path), tmp_path / "work"
  with started(flags, tmp_path, pace=0.2) as processes:
    wait_for(lambda: len(kept_files(work)) >= 8)
    processes[0].kill()
    finish(processes)
  seen = Counter(path.stem for path in kept_files(work))
  left = CLIPS - sum(count == 2 for count in seen.values())  # Of two networks.
  assert 0 < left < CLIPS
  assert not (tmp_path / "result.json").exists()
  with started(flags, tmp_path, 2) as processes:
    assert finish(processes) == [0, 0], told(tmp_path)
  check_finished(straight, tmp_path)
  first, second = (bars(told(tmp_path, index)) for index in range(2))
  assert first[0] == CLIPS and len(first) == 2 and len(second) == 1
  assert first[1] + second[0] == left and abs(first[1] - second[0]) <= 1


@pytest.mark.full
def test_two_processes_that_are_stopped_go_on_as_one_or_two(
  straight, files, tmp_path
):
  flags, work = arguments(files, tmp_path), tmp_path / "work"
  for count, least in ((2, 4), (1, 8), (2, 14)):
    with started(flags, tmp_path, count, pace=0.3) as processes:
      wait_for(lambda least=least: len(kept_files(work)) >= least)
      for process in processes:
        process.send_signal(signal.SIGTERM)
      assert finish(processes) == [-signal.SIGTERM] * count
    assert len(kept_files(work)) < len(straight[0])
  assert not (tmp_path / "result.json").exists()
  with started(flags, tmp_path) as processes:
    assert finish(processes) == [0], told(tmp_path)
  check_finished(straight, tmp_path)


def check_finished(straight, out):
  """Features and scores are, to the bit, those of a run that went through."""
  same(kept(out / "work"), straight[0])
  result = json.loads((out / "result.json").read_text())
  assert result["rows"] == straight[1]["rows"]
  assert result["left_out"] == straight[1]["left_out"]
  assert "other people's measurements" in told(out)


def bars(text):
  """How many batches each bar of progress began with."""
  return [int(n) for n in re.findall(r"batches of .*? 0%.*? 0/(\d+) ", text)]


def told(out, index=0):
  return (out / f"out_{index}.txt").read_text()


def kept_files(work):
  return list(work.rglob("*.npz"))


@pytest.mark.full
def test_a_mistake_of_two_processes_ends_both(files, tmp_path):
  flags = arguments(files, tmp_path, clips=9)
  with started(flags, tmp_path, 2) as processes:
    assert finish(processes, 60) == [2, 2]
  for index in range(2):
    text = told(tmp_path, index)
    assert "error: protocol.clips=9 cannot be split" in text
    assert "Traceback" not in text
  assert not (tmp_path / "work").exists()
