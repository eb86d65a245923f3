# SPDX-License-Identifier: Apache-2.0
"""The dataset emoji_motion as a builder of TensorFlow Datasets.

Import this module only to build: it needs tensorflow_datasets (and no
TensorFlow).
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from lumiere_jax.data import clips, pack

# So few are drawn sooner than worker processes start.
FEW_CLIPS = 1000


@dataclasses.dataclass(eq=False, kw_only=True)
class EmojiMotionConfig(tfds.core.BuilderConfig):
  """A builder config with the clips it stands for."""

  clip_set: clips.AnySet


def _config(
  name: str, description: str, clip_set: clips.AnySet
) -> EmojiMotionConfig:
  return EmojiMotionConfig(
    name=name, description=description, clip_set=clip_set
  )


class EmojiMotion(tfds.core.GeneratorBasedBuilder):
  """Animated emoji that move over flat backgrounds, captioned.

  The sprite pack is read from the manual folder (`DownloadConfig.manual_dir`).
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    "Make a sprite pack with `python -m lumiere_jax.data.sprites`."
  )
  BUILDER_CONFIGS: ClassVar = [
    _config(
      "demo32",
      "32 emoji, 32 pixels",
      clips.ClipSet(selection="demo", size_px=32),
    ),
    _config(
      "demo64",
      "32 emoji, 64 pixels",
      clips.ClipSet(selection="demo", size_px=64),
    ),
    _config(
      "demo128",
      # Fewer: without TensorFlow tfds shuffles no more than 1 GB.
      "32 emoji, 128 pixels",
      clips.ClipSet(
        selection="demo", size_px=128, train_clips=1, train_every=5
      ),
    ),
    _config(
      "full64",
      "every usable emoji, 64 pixels",
      clips.ClipSet(selection="all", size_px=64, train_clips=1),
    ),
    _config(
      "world64",
      "200 objects, 64 pixels: clips to evaluate by, training draws its own",
      clips.SceneSet(
        selection="world",
        size_px=64,
        per_object={"train": 8, "held_out": 6, "wordings": 6},
      ),
    ),
    _config(
      "tiny",
      "for tests: whatever the pack holds, 16 frames of 16 pixels",
      clips.ClipSet(selection="all", size_px=16, num_frames=16, train_clips=1),
    ),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    clip_set = self.builder_config.clip_set
    size = clip_set.size_px
    text = tfds.features.Text()
    return tfds.core.DatasetInfo(
      builder=self,
      description=EmojiMotion.__doc__,
      features=tfds.features.FeaturesDict(
        {
          "video": tfds.features.Tensor(
            shape=(clip_set.num_frames, size, size, 3),
            dtype=np.uint8,
            encoding="zlib",
          ),
          "caption": text,
          "image_caption": text,
          "emoji": text,
          "background": text,
          "movement": text,
          "phase": tfds.features.Scalar(np.int64),
        }
      ),
      # The loader's list of captions, which spares it reading the clips.
      metadata=tfds.core.MetadataDict(captions={}),
      license="art: MIT (Microsoft Fluent Emoji); names: MIT (emojibase)",
      homepage="https://github.com/microsoft/fluentui-emoji",
    )

  def _split_generators(self, dl_manager) -> dict[str, Any]:
    folder = str(dl_manager.manual_dir)
    return {
      split: self._generate_examples(folder, split)
      for split in self.builder_config.clip_set.splits
    }

  def _generate_examples(
    self, folder: str, split: str
  ) -> Iterator[tuple[str, clips.Example]]:
    clip_set = self.builder_config.clip_set
    infos = pack.select(pack.read_index(folder), clip_set.selection)
    total = sum(map(len, clip_set.requests(infos, split)))
    workers = (os.cpu_count() or 1) if total > FEW_CLIPS else 0
    made = clips.make_clips(clip_set, folder, split, workers)
    seen = set()
    for key, example in tqdm(made, split, total=total, unit="clip"):
      seen |= {example["caption"], example["image_caption"]}
      yield key, example
    self.info.metadata["captions"][split] = sorted(seen)
