# SPDX-License-Identifier: Apache-2.0
"""What training starts from: every way from one network to another."""

import dataclasses

import numpy as np
import pytest

from lumiere_jax import initial, trees
from lumiere_jax.config import (
  ConditionConfig,
  Config,
  DataConfig,
  TrainConfig,
  to_dict,
)
from lumiere_jax.errors import UserError
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.weights import folder
from tests.models import nets

IMAGE = Config(model=nets.IMAGE)
VIDEO = Config(
  model=nets.inflated(nets.IMAGE),
  data=DataConfig(num_frames=4),
  train=TrainConfig(stage="video"),
)
MASKED = dataclasses.replace(
  VIDEO,
  model=dataclasses.replace(VIDEO.model, in_channels=7),
  condition=ConditionConfig(kind="mask"),
)


def save(path, cfg, seed=1):
  params = nets.randomised(cfg.model, seed=seed)
  folder.save(path, params, to_dict(cfg), "MIT")
  return trees.flatten(params)


def start(cfg, **where):
  where = {name: str(path) for name, path in where.items()}
  train = dataclasses.replace(cfg.train, **where)
  cfg = dataclasses.replace(cfg, train=train)
  initial.check_initial(cfg)
  return trees.flatten(initial.initial_params(cfg))


def test_inflation_keeps_the_image_model(tmp_path):
  image = save(tmp_path / "w", IMAGE)
  params = start(VIDEO, init_from=tmp_path / "w")
  assert {p for p in params if not is_temporal(p)} == set(image)
  for path, leaf in image.items():
    np.testing.assert_array_equal(params[path], leaf)


def test_the_image_model_of_a_video_model_is_its_spatial_part(tmp_path):
  video = save(tmp_path / "w", VIDEO)
  params = start(IMAGE, init_from=tmp_path / "w")
  assert set(params) == {p for p in video if not is_temporal(p)}
  for path, leaf in params.items():
    np.testing.assert_array_equal(leaf, video[path])


def test_the_conditional_model_has_new_inputs_without_effect(tmp_path):
  video = save(tmp_path / "w", VIDEO)
  params = start(MASKED, init_from=tmp_path / "w")
  kernel = params["conv_in/kernel"]
  np.testing.assert_array_equal(kernel[:, :, :3], video["conv_in/kernel"])
  assert not np.any(kernel[:, :, 3:])
  again = start(MASKED, init_from=tmp_path / "w")
  assert trees.fingerprint(again) == trees.fingerprint(params)


def test_temporal_part_may_come_from_elsewhere(tmp_path):
  spatial = save(tmp_path / "a", IMAGE, seed=1)
  temporal = save(tmp_path / "b", VIDEO, seed=2)
  params = start(
    VIDEO, init_from=tmp_path / "a", init_temporal_from=tmp_path / "b"
  )
  for path, leaf in params.items():
    wanted = temporal[path] if is_temporal(path) else spatial[path]
    np.testing.assert_array_equal(leaf, wanted)


def test_the_temporal_part_may_begin_anew(tmp_path):
  video = save(tmp_path / "w", VIDEO, seed=1)
  params = start(VIDEO, init_from=tmp_path / "w", init_temporal_from="new")
  fresh = start(VIDEO)
  for path, leaf in params.items():
    wanted = fresh[path] if is_temporal(path) else video[path]
    np.testing.assert_array_equal(leaf, wanted)


def test_another_network_is_refused_by_shapes_alone(tmp_path):
  wide = dataclasses.replace(nets.IMAGE, block_out_channels=(8, 24))
  save(tmp_path / "w", dataclasses.replace(IMAGE, model=wide))
  train = dataclasses.replace(IMAGE.train, init_from=str(tmp_path / "w"))
  cfg = dataclasses.replace(IMAGE, train=train)
  for check in (initial.check_initial, initial.initial_params):
    with pytest.raises(UserError, match="does not fit the network"):
      check(cfg)
