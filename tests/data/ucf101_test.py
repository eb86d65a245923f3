# SPDX-License-Identifier: Apache-2.0
"""UCF-101 as it is distributed, and built from that."""

import subprocess
import sys

import numpy as np
import pytest

from lumiere_jax.config import DataConfig, SourceConfig
from lumiere_jax.data import loader, ucf101
from lumiere_jax.data.built import BuiltSource
from lumiere_jax.data.ucf101 import open_ucf101
from lumiere_jax.errors import UserError
from tests import video_files

CLASSES = ("ApplyEyeMakeup", "YoYo")


def _video(name, group):
  return f"{name}/v_{name}_g{group:02}_c01.avi"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Two classes of two videos; the second of each is for testing."""
  root = tmp_path_factory.mktemp("ucf")
  lists = root / "ucfTrainTestlist"
  lists.mkdir()
  train, test = [], []
  for number, name in enumerate(CLASSES, 1):
    (root / "UCF-101" / name).mkdir(parents=True)
    for group in (1, 2):
      video_files.write_video(
        root / "UCF-101" / _video(name, group), codec="mpeg4", seconds=1.0
      )
    train.append(f"{_video(name, 1)} {number}\n")
    test.append(f"{_video(name, 2)}\n")
  (lists / "trainlist01.txt").write_text("".join(train))
  (lists / "testlist01.txt").write_text("".join(test))
  return root / "UCF-101"


def _open(folder, split):
  return open_ucf101(
    SourceConfig(kind="ucf101", data_dir=str(folder), split=split)
  )


@pytest.mark.parametrize(
  ("split", "groups"), [("train", [1]), ("test", [2]), ("all", [1, 2])]
)
def test_splits_are_those_of_the_lists(folder, split, groups):
  source = _open(folder, split)
  names = [source.name(i) for i in range(len(source))]
  assert names == sorted(_video(n, g) for n in CLASSES for g in groups)
  assert source.captions() == ["apply eye makeup", "yo yo"]
  assert source[0].caption == "apply eye makeup"


def test_without_lists_only_all_can_be_had(folder, tmp_path):
  (tmp_path / "YoYo").mkdir()
  (tmp_path / "YoYo" / "v.avi").touch()
  assert len(_open(tmp_path, "all")) == 1
  with pytest.raises(UserError, match=r"trainlist01.*data\.split=all"):
    _open(tmp_path, "train")
  with pytest.raises(UserError, match=r"did you mean 'train'"):
    _open(tmp_path, "trian")
  with pytest.raises(UserError, match="no CLASS/VIDEO"):
    _open(folder / "YoYo", "all")


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("PlayingGuitar/v.avi", "playing guitar"),
    ("TaiChi", "tai chi"),
    ("Billiards", "billiards"),
    ("CleanAndJerk", "clean and jerk"),
  ],
)
def test_classes_in_words(name, words):
  assert ucf101.class_words(name) == words


_BUILD = """
import sys
from lumiere_jax.data import ucf101_builder, write
ucf101_builder.MOST_BYTES = int(sys.argv[3])
write.main(["--dataset=ucf101", "--config=split1", "--videos=" + sys.argv[1],
            "--data_dir=" + sys.argv[2]])
assert "tensorflow" not in sys.modules
"""


@pytest.mark.parametrize("most_bytes", [10**9, 0], ids=["one", "pipeline"])
def test_it_can_be_built_with_tfds_and_without_tensorflow(
  folder, tmp_path, most_bytes
):
  if not most_bytes:
    pytest.importorskip("apache_beam")
  arguments = [str(folder), str(tmp_path), str(most_bytes)]
  subprocess.run([sys.executable, "-c", _BUILD, *arguments], check=True)
  cfg = DataConfig(
    kind="built",
    name="ucf101",
    config="split1",
    data_dir=str(tmp_path),
    num_frames=8,
    size_px=16,
  )
  source = BuiltSource(cfg)
  files = _open(folder, "train")
  assert len(source) == len(files) == 2
  for index in range(2):
    item = source[index]
    with open(files[index].media, "rb") as file:
      assert item.media == file.read()
    assert item.caption == files[index].caption
  assert source.captions() == files.captions()
  assert "UCF-101" in loader.attribution(cfg)
  batch = next(loader.make_loader(cfg, stage="video", batch_size=2, seed=0))
  assert batch["pixels"].shape == (2, 8, 16, 16, 3)
  assert batch["pixels"].std() > 1 and batch["pixels"].dtype == np.uint8
