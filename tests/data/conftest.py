# SPDX-License-Identifier: Apache-2.0
"""The dataset "tiny", built once from the sprites in the repository."""

import pathlib

import pytest

from lumiere_jax.config import DataConfig
from lumiere_jax.data import write

SPRITES = pathlib.Path(__file__).parents[1] / "fixtures" / "sprites"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> DataConfig:
  data_dir = tmp_path_factory.mktemp("tfds")
  write.build("tiny", SPRITES, data_dir)
  return DataConfig(
    data_dir=str(data_dir), config="tiny", num_frames=16, size_px=16
  )


@pytest.fixture(scope="session")
def sprites() -> pathlib.Path:
  return SPRITES
