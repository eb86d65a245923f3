# SPDX-License-Identifier: Apache-2.0
"""Files of `sample` beside the usual ones: names for VBench, X-T slices."""

import json
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from lumiere_jax import Lumiere, media, sample
from lumiere_jax.errors import UserError
from lumiere_jax.inference.prompt import Request, vbench_name
from lumiere_jax.scoring.slices import periodicity, xt_slice
from tests.models import toy

pytestmark = pytest.mark.usefixtures("hashed_text")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  return toy.save(tmp_path_factory.mktemp("toy") / "weights")


@pytest.fixture(scope="module")
def shared():
  """The compiled model, once a test has asked for it."""
  return {}


@pytest.fixture
def run(weights, monkeypatch, shared):
  """Runs the program; returns all files below the folder, as their names."""
  if "model" not in shared:
    shared["model"] = Lumiere.load(str(weights))
  monkeypatch.setattr(Lumiere, "from_config", lambda _: shared["model"])

  def program(out, *args):
    sample.main([f"--out={out}", *map(str, args)])
    return sorted(
      str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()
    )

  return lambda out, *args: program(out, f"--weights={weights}", *args)


PROMPTS = (
  "A 3D model of a 1800s victorian house.",
  'a dog\'s bowl, "full" & shiny: 50% off?!',
  "Ein Zug im Schnee, 雪中的火车...",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_vbench_finds_prompts_letter_for_letter(prompt):
  assert vbench_name(Request(prompt, 4)) == prompt + "-4.mp4"


def test_vbench_gets_a_folder_of_nothing_else(
  run, tmp_path, capsys, monkeypatch
):
  prompt = PROMPTS[1]
  files = run(
    tmp_path, f"--prompt={prompt}", "--names=vbench", "--raw", "--seed=2"
  )
  stem = "a-dog-s-bowl-full-shiny-50-off"
  # VBench takes the end of the first name it meets for that of all.
  assert files == sorted(
    [f"vbench/{prompt}-{i}.mp4" for i in range(5)]
    + [
      f"{stem}-{i}.{e}"
      for i in range(5)
      for e in ("json", "npy", "png", "webp")
    ]
  )
  printed = capsys.readouterr().out
  assert f"{tmp_path}/vbench/{prompt}-4.mp4" in printed
  with av.open(str(tmp_path / "vbench" / f"{prompt}-0.mp4")) as container:
    stream = container.streams.video[0]
    assert (stream.width, stream.height, stream.frames) == (8, 8, 80)

  def made(*_, **__):
    raise AssertionError("made before names were looked at")

  with monkeypatch.context() as patched:
    patched.setattr(Lumiere, "compile", made)
    with pytest.raises(UserError, match=r"-0\.mp4 exists already and is not"):
      run(tmp_path, f"--prompt={prompt}", "--names=vbench", "--num_samples=1")

  # The clip and its name can be had again from its sidecar.
  sidecar = tmp_path / f"{stem}-3.json"
  names = run(tmp_path / "a", f"--replay={sidecar}")
  ends = (".json", ".mp4", ".npy", ".png", ".webp")
  assert names == [f"{stem}-3{end}" for end in ends]
  names = run(tmp_path / "b", f"--replay={sidecar}", "--names=vbench")
  assert names[-1] == f"vbench/{prompt}-3.mp4" and len(names) == 5
  for again in ("a", "b"):
    np.testing.assert_array_equal(
      np.load(tmp_path / again / f"{stem}-3.npy"),
      np.load(tmp_path / f"{stem}-3.npy"),
    )


@pytest.mark.parametrize(
  ("args", "message"),
  [
    (["--prompt=a cat/dog", "--names=vbench"], "holds a slash, which no file"),
    (["--prompt=" + "ü" * 125, "--names=vbench"], "a name of 256 bytes; .*255"),
    (["--prompt=a", "--prompt=a ", "--names=vbench"], "2 clips .*'a-0.mp4'"),
    (["--prompt=a", "--names=vbnch"], "unknown --names='vbnch' .*'vbench'"),
    (
      ["--prompt=a", "--names=vbench", "--task=text_to_image"],
      "--names=vbench is of clips; --task=text_to_image makes images",
    ),
    (
      ["--prompt=a", "--xt_slice", "--task=text_to_image"],
      "--xt_slice is of clips",
    ),
  ],
)
def test_what_cannot_be_is_told_before_anything_is_made(
  run, tmp_path, monkeypatch, args, message
):
  def made(*_, **__):
    raise UserError("never")

  monkeypatch.setattr(Lumiere, "compile", made)
  with pytest.raises(UserError, match=message):
    run(tmp_path / "out", *args)


def test_a_name_that_is_taken_meanwhile_leaves_no_other_file(tmp_path):
  scratch = tmp_path / "scratch"
  scratch.mkdir()
  files = [scratch / "clip.json", scratch / "clip.mp4"]
  for file in files:
    file.write_text(file.suffix)
  there = tmp_path / "out" / "vbench" / "a-0.mp4"
  there.parent.mkdir(parents=True)
  named = {files[1]: there}
  paths = media.publish_together(files, tmp_path / "out", "a-0", named)
  assert paths == [tmp_path / "out" / "a-0.json", there]
  with pytest.raises(UserError, match="exists already"):
    media.publish_together(files, tmp_path / "out", "b-0", named)
  assert there.read_text() == ".mp4"
  assert [p.name for p in (tmp_path / "out").glob("b*")] == []


def test_a_slice_is_the_middle_row_over_time(run, tmp_path):
  files = run(tmp_path, "--prompt=a frog", "--xt_slice", "--raw")
  assert "a-frog-0.xt.png" in files and "a-frog-0.mp4" in files
  clip = np.load(tmp_path / "a-frog-0.npy")
  with Image.open(tmp_path / "a-frog-0.xt.png") as image:
    pixels = np.asarray(image)
  assert pixels.shape == (80 * 32, 8 * 32, 3)  # Time downwards.
  np.testing.assert_array_equal(pixels[5::32, 7::32], xt_slice(clip))
  np.testing.assert_array_equal(pixels[::32, ::32], clip[:, 4])
  sidecar = json.loads((tmp_path / "a-frog-0.json").read_text())
  score, period = periodicity(clip)
  assert sidecar["periodicity"] == {"score": score, "period_frames": period}

  names = run(tmp_path / "again", f"--replay={tmp_path / 'a-frog-0.json'}")
  assert "a-frog-0.xt.png" in names
  # Of a sidecar that knows nothing of slices, the flag still asks for one.
  del sidecar["xt_slice"], sidecar["periodicity"]
  (tmp_path / "old.json").write_text(json.dumps(sidecar))
  replay = f"--replay={tmp_path / 'old.json'}"
  assert "a-frog-0.xt.png" not in run(tmp_path / "old", replay)
  shutil.rmtree(tmp_path / "old")
  assert "a-frog-0.xt.png" in run(tmp_path / "old", replay, "--xt_slice")
