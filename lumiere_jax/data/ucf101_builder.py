# SPDX-License-Identifier: Apache-2.0
"""UCF-101, from a local folder, as a builder of TensorFlow Datasets.

tfds's own needs TensorFlow to decode. Here the videos stay encoded. Import this
module only to build: it needs tensorflow_datasets (and no TensorFlow).
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from lumiere_jax.data import ucf101
from lumiere_jax.data.beam import import_beam

# Without TensorFlow, tfds writes no more than 1 GiB other than as a pipeline.
MOST_BYTES = 900 * 2**20


class Ucf101(tfds.core.GeneratorBasedBuilder):
  """Actions in videos of users, one class each, still encoded.

  The folder UCF-101 is the manual folder (`DownloadConfig.manual_dir`).
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = "Unpack UCF101.rar and its lists."
  BUILDER_CONFIGS: ClassVar = [
    tfds.core.BuilderConfig(
      name=name, description=f"split number {name[-1]} of the three"
    )
    for name in ("split1", "split2", "split3")
  ] + [tfds.core.BuilderConfig(name="all", description="all, without lists")]

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=Ucf101.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "video": tfds.features.Tensor(shape=(), dtype=np.object_),
          "caption": tfds.features.Text(),
          "label": tfds.features.Scalar(np.int64),
          "file": tfds.features.Text(),
        }
      ),
      metadata=tfds.core.MetadataDict(captions={}, classes=[]),
      # Readers shuffle; here it would take all videos into memory.
      disable_shuffling=True,
      homepage="https://www.crcv.ucf.edu/data/UCF101.php",
    )

  def _split_generators(self, dl_manager) -> dict[str, Any]:
    folder = Path(dl_manager.manual_dir)
    number = self.builder_config.name.removeprefix("split")
    names = (
      {"all": "all"}
      if number == "all"
      else {split: f"{split}{number}" for split in ("train", "test")}
    )
    files = {s: ucf101.split_files(folder, n) for s, n in names.items()}
    classes = ucf101.class_names([f for names in files.values() for f in names])
    self.info.metadata["classes"] += classes
    for split, names in files.items():
      words = {ucf101.class_words(name) for name in names}
      self.info.metadata["captions"][split] = sorted(words)
    sizes = [
      (folder / name).stat().st_size
      for names in files.values()
      for name in names
    ]
    examples = _generate if sum(sizes) <= MOST_BYTES else _beam_examples
    return {
      split: examples(folder, names, classes) for split, names in files.items()
    }

  def _generate_examples(self) -> None:
    """`_split_generators` has made them."""


def _example(
  folder: Path, classes: list[str], numbered: tuple[int, str]
) -> tuple[int, dict[str, Any]]:
  key, name = numbered
  return key, {
    "video": (folder / name).read_bytes(),
    "caption": ucf101.class_words(name),
    "label": classes.index(name.partition("/")[0]),
    "file": name,
  }


def _generate(
  folder: Path, files: list[str], classes: list[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
  for numbered in enumerate(files):
    yield _example(folder, classes, numbered)


def _beam_examples(folder: Path, files: list[str], classes: list[str]) -> Any:
  """The same for tfds to run as a pipeline."""
  beam = import_beam()
  return beam.Create(list(enumerate(files))) | beam.Map(
    functools.partial(_example, folder, classes)
  )
