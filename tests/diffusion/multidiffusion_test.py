# SPDX-License-Identifier: Apache-2.0
"""MultiDiffusion: what it must leave alone, and an explicit least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import WindowsConfig
from lumiere_jax.diffusion.multidiffusion import (
  axis_starts,
  distributed,
  place_windows,
  windowed,
)
from lumiere_jax.errors import UserError

SHAPE = (23, 12, 10)
CONFIGS = {
  "segments": WindowsConfig(frames=8, overlap=2),
  "no overlap": WindowsConfig(frames=8, overlap=0),
  "triangular": WindowsConfig(frames=8, overlap=5, weights="triangular"),
  "tiles": WindowsConfig(tile_px=6, tile_overlap_px=2),
  "both": WindowsConfig(
    frames=7, overlap=3, tile_px=5, tile_overlap_px=1, weights="triangular"
  ),
}


@pytest.fixture(params=CONFIGS)
def cfg(request):
  return CONFIGS[request.param]


@pytest.fixture(scope="module")
def inputs():
  keys = jax.random.split(jax.random.key(0), 4)
  x = jax.random.normal(keys[0], (2, *SHAPE, 3))
  t = jnp.array([3.0, 400.0])
  text = jax.random.normal(keys[1], (1, 4, 3))
  beside = jax.random.normal(keys[2], (2, *SHAPE, 2))
  return x, t, ([text], [beside])


def network(x, t, condition):
  """Every output sees its whole window, the text and the timestep."""
  (text,), (beside,) = condition
  mean = x.mean(axis=(1, 2, 3), keepdims=True)
  place = jnp.arange(x.shape[1])[None, :, None, None, None] / 10
  words = text.mean(axis=(1, 2))[:, None, None, None, None]
  y = jnp.tanh(x + mean + place + beside.sum(-1, keepdims=True) + words)
  return jnp.concatenate([y, y * t[:, None, None, None, None]], axis=-1)


def local(x, t, condition):
  """Every output sees its own pixel alone."""
  (text,), (beside,) = condition
  return x * jnp.sin(beside[..., :1]) + text.mean()


@pytest.mark.parametrize("length", range(1, 40))
@pytest.mark.parametrize(("size", "overlap"), [(16, 2), (8, 0), (5, 4)])
def test_windows_cover_an_axis_and_end_with_it(length, size, overlap):
  size = min(size, length)
  overlap = min(overlap, size - 1)
  starts = axis_starts(length, size, overlap)
  assert starts[0] == 0 and starts[-1] == length - size
  steps = np.diff(starts)
  assert (steps > 0).all() and (steps <= size - overlap).all()
  assert (steps[:-1] == size - overlap).all()


def test_the_papers_windows():
  starts = place_windows((80, 4, 4), WindowsConfig(frames=16)).starts
  np.testing.assert_array_equal(starts[:, 0], [0, 14, 28, 42, 56, 64])


def _place(start, windows):
  ends = start + np.array(windows.size)
  return tuple(slice(*pair) for pair in zip(start, ends, strict=True))


def test_weights_are_a_partition_of_unity(cfg):
  windows = place_windows(SHAPE, cfg)
  total = np.zeros(SHAPE)
  for start, *weights in zip(windows.starts, *windows.weights, strict=True):
    place = _place(start, windows)
    total[place] += np.einsum("t,h,w->thw", *weights)
  np.testing.assert_allclose(total, 1, atol=1e-6)


def test_one_window_is_the_network_itself(inputs):
  windows = place_windows(SHAPE, WindowsConfig(frames=40))
  assert windowed(network, windows) is network


def test_what_sees_pixels_alone_is_unchanged(cfg, inputs):
  merged = windowed(local, place_windows(SHAPE, cfg))(*inputs)
  np.testing.assert_allclose(merged, local(*inputs), atol=1e-5)


def _explicit(windows, x, t, condition):
  """The least-squares clip, pixel by pixel, solved as such."""
  (text,), (beside,) = condition
  rows, answers = [], []
  index = np.arange(np.prod(SHAPE)).reshape(SHAPE)
  for start, *weights in zip(windows.starts, *windows.weights, strict=True):
    place = _place(start, windows)
    part = (slice(None), *place)
    raw = network(x[part], t, ([text], [beside[part]]))
    root = np.sqrt(np.einsum("t,h,w->thw", *weights)).ravel()
    matrix = np.zeros((root.size, index.size))
    matrix[np.arange(root.size), index[place].ravel()] = root
    rows.append(matrix)
    flat = np.moveaxis(np.asarray(raw), 0, -2).reshape(root.size, -1)
    answers.append(root[:, None] * flat)
  solved, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(answers))
  return np.moveaxis(solved.reshape(*SHAPE, len(x), -1), -2, 0)


def test_the_merge_solves_the_least_squares(inputs):
  # Small enough for a dense solve.
  x, t, ([text], [beside]) = inputs
  cfg = WindowsConfig(frames=9, overlap=4, tile_px=7, tile_overlap_px=3)
  small = (slice(None), slice(None), slice(0, 9), slice(0, 8))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(globals(), "SHAPE", (23, 9, 8))
    part = (x[small], t, ([text], [beside[small]]))
    windows = place_windows(SHAPE, cfg)
    expected = _explicit(windows, *part)
  merged = windowed(network, windows)(*part)
  scale = np.abs(expected).max()
  np.testing.assert_allclose(merged / scale, expected / scale, atol=1e-5)


@pytest.mark.parametrize("per_call", [2, 3, 50])
def test_grouping_changes_nothing(cfg, per_call, inputs):
  windows = place_windows(SHAPE, cfg)
  one = windowed(network, windows)(*inputs)
  many = jax.jit(windowed(network, windows, per_call))(*inputs)
  np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-4)


def test_order_changes_nothing(cfg, inputs):
  windows = place_windows(SHAPE, cfg)
  order = np.random.default_rng(0).permutation(len(windows.starts))
  mixed = windows._replace(
    starts=windows.starts[order],
    weights=tuple(w[order] for w in windows.weights),
  )
  np.testing.assert_allclose(
    windowed(network, windows)(*inputs),
    windowed(network, mixed)(*inputs),
    rtol=1e-5,
    atol=1e-4,
  )


@pytest.mark.devices(8)
def test_windows_shared_out_over_devices_change_nothing(inputs):
  for cfg in CONFIGS.values():
    windows = place_windows(SHAPE, cfg)
    for count in (3, 8):
      np.testing.assert_allclose(
        windowed(network, windows)(*inputs),
        jax.jit(distributed(network, windows, 2, count))(*inputs),
        rtol=1e-5,
        atol=1e-4,
      )


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"frames": 16, "overlap": 16}, r"windows.overlap=16 must be in 0..15"),
    ({"frames": 16, "overlap": -1}, "windows.overlap=-1"),
    ({"frames": -1}, "windows.frames=-1"),
    ({"tile_px": 8, "tile_overlap_px": 9}, "windows.tile_overlap_px=9"),
    ({"weights": "round"}, "windows.weights"),
    ({"per_call": 0}, "windows.per_call=0"),
  ],
)
def test_windows_that_cannot_be_are_refused(fields, message):
  with pytest.raises(UserError, match=message):
    WindowsConfig(**fields)
