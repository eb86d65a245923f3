# SPDX-License-Identifier: Apache-2.0
"""Temporal MultiDiffusion: one network call as many on overlapping windows.

A network that sees short segments is asked for all of them at every denoising
step, and the clip that agrees best with all answers, in the sense of weighted
least squares, is their weighted mean (section 3.2; arXiv 2302.08113, eq. 5).
Tiles of height and width are further axes of the same windows.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec

from lumiere_jax.config import WindowsConfig
from lumiere_jax.shapes import Array, Float, PyTree

# (x (b t h w c), t (b,), (shared, along)) -> raw output (b t h w k). Leaves of
# `shared` have leading axis b or 1, those of `along` are clips as x is.
WindowNetwork = Callable[[Array, Array, PyTree], Array]


_AXIS = "windows"  # of a mesh


class Windows(NamedTuple):
  """Windows that cover a clip.

  Attributes:
    size: (t, h, w) of each.
    starts: (k, 3) their first frame, row and column.
    weights: for each axis (k, size of a window along it), float32. The products
      of a window's three are its weights; over all windows they sum to 1 on
      every pixel.
  """

  size: tuple[int, int, int]
  starts: np.ndarray
  weights: tuple[np.ndarray, np.ndarray, np.ndarray]


def place_windows(shape: tuple[int, int, int], cfg: WindowsConfig) -> Windows:
  """Places windows on a clip.

  Args:
    shape: (t, h, w) of the clip.
    cfg: their size and overlap.
  """
  sizes = (cfg.frames, cfg.tile_px, cfg.tile_px)
  overlaps = (cfg.overlap, cfg.tile_overlap_px, cfg.tile_overlap_px)
  axes = []
  for length, size, overlap in zip(shape, sizes, overlaps, strict=True):
    size = min(size or length, length)
    starts = axis_starts(length, size, min(overlap, size - 1))
    axes.append((starts, _axis_weights(length, size, starts, cfg.weights)))
  # Of each window its place along each axis, time outermost.
  places = np.array(
    list(itertools.product(*(range(len(starts)) for starts, _ in axes)))
  )
  return Windows(
    size=tuple(weights.shape[1] for _, weights in axes),
    starts=np.stack(
      [starts[places[:, i]] for i, (starts, _) in enumerate(axes)], axis=1
    ).astype(np.int32),
    weights=tuple(weights[places[:, i]] for i, (_, weights) in enumerate(axes)),
  )


def axis_starts(length: int, size: int, overlap: int) -> np.ndarray:
  """Where windows of a size start along an axis: (k,) ascending integers.

  Neighbours share `overlap` positions; the last is moved back to end with the
  axis and shares more.
  """
  count = 1 + math.ceil(max(length - size, 0) / (size - overlap))
  return np.minimum(np.arange(count) * (size - overlap), length - size)


def _axis_weights(
  length: int, size: int, starts: np.ndarray, kind: str
) -> np.ndarray:
  """Weights of each window along an axis, (k, size); they sum to 1 overall."""
  profile = np.ones(size)
  if kind == "triangular":  # Least at the ends, where there is least context.
    profile = np.minimum(np.arange(size) + 1, size - np.arange(size)) * 1.0
  total = np.zeros(length)
  for start in starts:
    total[start : start + size] += profile
  shares = [profile / total[start : start + size] for start in starts]
  return np.stack(shares).astype(np.float32)


def windowed(
  network: WindowNetwork,
  windows: Windows,
  per_call: int = 1,
  axis_name: str | None = None,
) -> WindowNetwork:
  """Makes of a network of windows one of whole clips.

  The merge is taken on the raw output: for every kind of prediction x0 and eps
  are affine in it with the same noisy clip, so it is the merge of those too.

  Args:
    network: sees windows.
    windows: where they lie.
    per_call: how many it sees at once; its memory grows with them.
    axis_name: mapped mesh axis (`shard_map`) over which windows are shared out;
      what is returned is then the same on all of its devices.
  """
  if len(windows.starts) == 1 and axis_name is None:
    return network
  per_call = min(per_call, len(windows.starts))

  def call(x: Array, t: Array, condition: PyTree) -> Float[Array, "b ..."]:
    groups = _groups(windows, per_call, axis_name)
    shared, along = condition

    def answers(starts: Array) -> Array:
      return _ask(network, windows.size, starts, x, t, shared, along)

    def one(total: Array, group: Any) -> tuple[Array, None]:
      starts, weights = group
      raw = answers(starts)
      for i in range(per_call):
        total = _add(total, raw[i], starts[i], [w[i] for w in weights])
      return total, None

    channels = jax.eval_shape(answers, windows.starts[:1]).shape[-1]
    total = jnp.zeros((*x.shape[:-1], channels), jnp.float32)
    if axis_name is not None:
      total = jax.lax.pcast(total, axis_name, to="varying")
    total, _ = jax.lax.scan(one, total, groups)
    if axis_name is not None:
      total = jax.lax.psum(total, axis_name)
    return total

  return call


def distributed(
  network: WindowNetwork, windows: Windows, per_call: int, devices: int
) -> WindowNetwork:
  """The same as `windowed`, the windows shared out over devices.

  Each of them holds the whole clip, and sees its own windows only.

  Args:
    network: sees windows.
    windows: where they lie.
    per_call: how many a device sees at once.
    devices: how many; the first ones of this process.
  """
  if devices == 1:
    return windowed(network, windows, per_call)
  mesh = jax.make_mesh(
    (devices,),
    (_AXIS,),
    axis_types=(AxisType.Auto,),
    devices=jax.local_devices()[:devices],
  )
  everywhere = PartitionSpec()
  return jax.shard_map(
    windowed(network, windows, per_call, _AXIS),
    mesh=mesh,
    in_specs=everywhere,
    out_specs=everywhere,
  )


def _groups(windows: Windows, per_call: int, axis_name: str | None) -> Any:
  """Starts and weights of this device's windows, in groups of `per_call`.

  Groups are filled up with windows of no weight.
  """
  devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
  missing = -len(windows.starts) % (per_call * devices)

  def grouped(values: np.ndarray, fill: bool) -> Array:
    padding = [(0, missing)] + [(0, 0)] * (values.ndim - 1)
    values = np.pad(values, padding, mode="edge" if fill else "constant")
    values = values.reshape(devices, -1, per_call, *values.shape[1:])
    index = 0 if axis_name is None else jax.lax.axis_index(axis_name)
    return jnp.asarray(values)[index]

  time, *rest = windows.weights
  weights = [grouped(time, False), *(grouped(w, True) for w in rest)]
  return grouped(windows.starts, True), weights


def _ask(
  network: WindowNetwork,
  size: tuple[int, int, int],
  starts: Array,
  x: Array,
  t: Array,
  shared: PyTree,
  along: PyTree,
) -> Float[Array, "k b t h w c"]:
  """The network's answers on windows, all in one batch."""
  count, batch = len(starts), len(x)

  def cut(clip: Array) -> Array:
    def at(start: Array) -> Array:
      first = (0, *start, 0)
      return jax.lax.dynamic_slice(
        clip, first, (len(clip), *size, clip.shape[-1])
      )

    return jax.vmap(at)(starts).reshape(-1, *size, clip.shape[-1])

  def repeat(leaf: Array) -> Array:
    leaf = jnp.broadcast_to(leaf, (batch, *leaf.shape[1:]))
    return jnp.tile(leaf, (count, *(1,) * (leaf.ndim - 1)))

  raw = network(
    cut(x), repeat(t), (jax.tree.map(repeat, shared), jax.tree.map(cut, along))
  )
  return raw.astype(jnp.float32).reshape(count, batch, *raw.shape[1:])


def _add(
  total: Array, raw: Array, start: Array, weights: list[Array]
) -> Float[Array, "b t h w c"]:
  """Adds a window's weighted answer to the sum of all."""
  time, rows, columns = weights
  weight = time[:, None, None, None] * rows[:, None, None] * columns[:, None]
  first = (0, *start, 0)
  before = jax.lax.dynamic_slice(total, first, raw.shape)
  return jax.lax.dynamic_update_slice(total, before + weight * raw, first)
