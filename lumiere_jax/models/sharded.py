# SPDX-License-Identifier: Apache-2.0
"""The network on a mesh: each device its examples, frames and parameters.

Everything inside is written out (`jax.shard_map` over all axes): a device
convolves its own frames of its own examples, asks its neighbours for what a
temporal layer sees beyond them (`nn/frames.py`), and brings a level's
parameters together when it needs them, again in the backward pass.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from lumiere_jax.config import UNetConfig
from lumiere_jax.errors import UserError
from lumiere_jax.models.stunet import STUNet
from lumiere_jax.nn.frames import Split, possible_splits
from lumiere_jax.shapes import Array, PyTree
from lumiere_jax.sharding import BATCH, FRAMES, gathered, specs
from lumiere_jax.sharding.mesh import FSDP
from lumiere_jax.sharding.rules import varying

_BLOCKS = ("down_", "mid", "up_")


def make_apply(cfg: UNetConfig, mesh: Mesh | None = None) -> Any:
  """Returns (params, x, t, text, mask, noise level, dropout keys) -> output.

  As `STUNet.apply`, the last three arguments may be None or left out. On a
  mesh all of an example lies as `sharding.batch_sharding` says, params as
  `sharding.RULES` say. The plain network takes the keywords of `STUNet` too.

  Args:
    cfg: of the network.
    mesh: the devices; None, or one device, is the plain network.
  """
  if mesh is None or mesh.size == 1:
    network = STUNet(cfg)
    return lambda params, *args, **deep: network.apply(
      {"params": params}, *args, **deep
    )

  def apply(params: PyTree, x: Array, *args: Any) -> Array:
    frames = (FRAMES,) if x.ndim == 5 else ()
    along, each = PartitionSpec(BATCH, *frames), PartitionSpec(BATCH)
    split = specs(params)
    network = _Local(cfg, mesh, (*BATCH, *frames), split)
    # An argument that is None has nowhere to lie.
    given = {i: arg for i, arg in enumerate(args) if arg is not None}

    def call(params: PyTree, x: Array, given: dict[int, Array]) -> Array:
      return network(params, x, *map(given.get, range(len(args))))

    return jax.shard_map(
      call, mesh=mesh, in_specs=(split, along, each), out_specs=along
    )(params, x, given)

  return apply


def check_frames(cfg: UNetConfig, count: int, mesh: Mesh) -> None:
  """Raises UserError if the mesh cannot split a clip of so many frames."""
  devices = mesh.shape[FRAMES]
  if cfg.temporal is None and devices > 1:
    raise UserError(
      f"mesh.frames={devices} splits clips, but the model is one of images: "
      "it must be 1"
    )
  choices = possible_splits(cfg, count)
  if devices not in choices:
    raise UserError(
      f"mesh.frames={devices} cannot split clips of {count} frames; it can "
      f"be: {', '.join(map(str, choices))}"
    )


@dataclass(frozen=True)
class _Local:
  """What one device does; attributes as in `make_apply`.

  Attributes:
    axes: of the mesh that the input differs along.
    specs: how parameters are split.
  """

  cfg: UNetConfig
  mesh: Mesh
  axes: tuple[str, ...]
  specs: PyTree

  def __call__(self, params: PyTree, x: Array, *args: Any) -> Array:
    params = varying(params, self.specs, self.axes)
    split = read = None
    if FRAMES in self.axes and (devices := self.mesh.shape[FRAMES]) > 1:
      split = Split(FRAMES, devices)
    if self.mesh.shape[FSDP] > 1:
      read = self._read
      # What stands outside of the blocks is small.
      params = {
        name: part
        if name.startswith(_BLOCKS)
        else gathered(part, self.specs[name])
        for name, part in params.items()
      }
    return STUNet(self.cfg, split, read).apply({"params": params}, x, *args)

  def _read(self, name: str, params: PyTree) -> PyTree:
    return gathered(params, self.specs[name], jnp.dtype(self.cfg.dtype))
