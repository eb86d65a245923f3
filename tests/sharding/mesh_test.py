# SPDX-License-Identifier: Apache-2.0
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from jax.sharding import AbstractMesh, NamedSharding

from lumiere_jax import sharding
from lumiere_jax.config import MeshConfig
from lumiere_jax.errors import UserError

AXES = ("data", "fsdp", "frames")


@pytest.mark.parametrize(
  ("sizes", "data"),
  [({}, 8), ({"fsdp": 4}, 2), ({"fsdp": 2, "frames": 4}, 1), ({"data": 8}, 8)],
)
def test_data_takes_the_devices_that_are_left(sizes, data):
  assert sharding.resolved(MeshConfig(**sizes), 8).data == data


@pytest.mark.parametrize(
  ("sizes", "message"),
  [
    ({"fsdp": 3}, "mesh.fsdp=3 .* 8 devices; .*mesh.fsdp can be: 1, 2, 4, 8$"),
    ({"frames": 2, "fsdp": 8}, "mesh.frames=2 .* mesh.fsdp can be: 1, 2, 4; "),
    ({"frames": 3}, "8 devices; mesh.frames can be: 1, 2, 4, 8$"),
    (
      {"data": 2},
      "mesh.data=2, mesh.fsdp=1 .* do not share out 8 devices; "
      "mesh.data can be: 8; mesh.fsdp can be: 4; mesh.frames can be: 4$",
    ),
    ({"frames": 3, "fsdp": 3}, "together they must divide 8"),
    (
      {"slices": 3},
      "mesh.slices=3 must divide mesh.data=8.*can be: 1, 2, 4, 8$",
    ),
  ],
)
def test_sizes_that_cannot_work_are_refused_with_those_that_can(sizes, message):
  with pytest.raises(UserError, match=message):
    sharding.resolved(MeshConfig(**sizes), 8)


def test_batch_size_error_names_sizes_that_fit():
  mesh = AbstractMesh((2, 2, 3), AXES)
  sharding.check_batch_size(24, 3, mesh)
  with pytest.raises(UserError, match=r"batch_size=30 .* 24, 36 or 48"):
    sharding.check_batch_size(30, 3, mesh)
  with pytest.raises(UserError, match=r"batch_size=2 .* 4, 8 or 12"):
    sharding.check_batch_size(2, 1, mesh)


@pytest.mark.devices(8)
def test_batch_is_split_over_data_and_fsdp_and_clips_over_frames_too():
  mesh = sharding.make_mesh(MeshConfig(fsdp=2, frames=2))
  clips = np.arange(8 * 4).reshape(8, 4, 1, 1, 1)
  batch = {"x": np.arange(8), "y": np.ones((8, 2)), "clips": clips}
  placed = sharding.place_batch(batch, mesh, 8)
  parts = [s.data.tolist() for s in placed["x"].addressable_shards]
  assert parts == [[0, 1]] * 2 + [[2, 3]] * 2 + [[4, 5]] * 2 + [[6, 7]] * 2
  assert placed["y"].addressable_shards[0].data.shape == (2, 2)
  assert placed["clips"].addressable_shards[0].data.shape == (2, 2, 1, 1, 1)
  for name, value in batch.items():
    np.testing.assert_array_equal(placed[name], value)


@dataclass(frozen=True)
class Device:
  id: int
  slice_index: int
  platform: str = "cpu"
  device_kind: str = "test"

  @property
  def process_index(self):
    return self.slice_index


TWO_SLICES = [Device(i, i // 4) for i in range(8)]


def test_slices_meet_along_the_outer_part_of_data_only():
  mesh = sharding.make_mesh(MeshConfig(fsdp=2, slices=2), TWO_SLICES)
  assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "frames": 1}
  slices = np.vectorize(lambda d: d.slice_index)(mesh.devices)
  np.testing.assert_array_equal(slices[:2], 0)
  np.testing.assert_array_equal(slices[2:], 1)


def test_another_number_of_slices_is_refused():
  message = "mesh.slices=4, but the devices are of 2"
  with pytest.raises(UserError, match=re.escape(message)):
    sharding.make_mesh(MeshConfig(slices=4), TWO_SLICES)


def test_slices_of_tpus_are_not_mixed_up_by_accident():
  tpus = [replace(device, platform="tpu") for device in TWO_SLICES]
  with pytest.raises(UserError, match=r"mesh.slices=1, but .* are of 2"):
    sharding.make_mesh(MeshConfig(), tpus)


@pytest.mark.devices(8)
@pytest.mark.parametrize(
  ("sizes", "first", "second"),
  [
    ({}, [0, 1, 2, 3], [4, 5, 6, 7]),
    ({"fsdp": 4, "frames": 2}, [0, 1, 2, 3], [4, 5, 6, 7]),
    ({"frames": 8}, list(range(8)), list(range(8))),
  ],
)
def test_processes_read_the_examples_that_their_devices_see(
  monkeypatch, sizes, first, second
):
  """As if the first four devices were another process's than the rest."""
  mesh = sharding.make_mesh(MeshConfig(**sizes))

  def rows(process):
    monkeypatch.setattr(
      NamedSharding,
      "addressable_devices_indices_map",
      lambda self, shape: {
        d: index
        for d, index in self.devices_indices_map(shape).items()
        if d.id // 4 == process
      },
    )
    return sharding.local_rows(mesh, 8).tolist()

  assert [rows(0), rows(1)] == [first, second]
