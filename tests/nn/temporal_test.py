# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import TemporalConfig, UNetConfig
from lumiere_jax.nn.frames import Frames
from lumiere_jax.nn.temporal import (
  AttentionInflation,
  ConvInflation,
  TemporalDownsample,
  TemporalUpsample,
  folded_conv,
  identity_init,
  shifted_matmuls,
  temporal_conv,
)

CFG = UNetConfig(
  norm_num_groups=4, temporal=TemporalConfig(attention_head_dim=4)
)


def clip(*shape, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("form", [temporal_conv, folded_conv, shifted_matmuls])
def test_temporal_conv_is_numpys(taps, stride, form):
  x, kernel = clip(2, 6, 2, 3, 4), clip(taps, 4, 5, seed=1)
  padded = np.pad(x, ((0, 0), (taps // 2,) * 2, (0, 0), (0, 0), (0, 0)))
  got = form(jnp.asarray(padded), kernel, stride)
  want = np.stack(
    [
      sum(padded[:, t + i] @ np.asarray(kernel[i]) for i in range(taps))
      for t in range(0, 6, stride)
    ],
    axis=1,
  )
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_both_forms_have_the_same_gradients(stride):
  x, kernel = clip(2, 8, 2, 3, 4), clip(3, 4, 5, seed=1)

  def slopes(form):
    def loss(x, kernel):
      return (form(x, kernel, stride) ** 2).sum()

    return jax.grad(loss, argnums=(0, 1))(x, kernel)

  for got, want in zip(
    slopes(folded_conv), slopes(shifted_matmuls), strict=True
  ):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def run(module, *args):
  params = module.init(jax.random.key(0), *args)
  return module.apply(params, *args), params["params"]


def test_downsampling_starts_as_every_second_frame():
  x = clip(1, 6, 2, 2, 4)
  y, _ = run(TemporalDownsample(CFG, Frames(6), Frames(3)), x)
  np.testing.assert_array_equal(y, x[:, ::2])


def test_upsampling_starts_as_every_frame_twice():
  x = clip(1, 3, 2, 2, 4)
  y, _ = run(TemporalUpsample(CFG, Frames(3), Frames(6)), x)
  np.testing.assert_array_equal(y, jnp.repeat(x, 2, axis=1))


@pytest.mark.parametrize("taps", [1, 3, 5])
def test_resampling_has_unit_gain(taps):
  """A constant signal stays what it is: the kernel sums to the identity."""
  temporal = TemporalConfig(kernel_size=taps)
  cfg = dataclasses.replace(CFG, temporal=temporal)
  kernel = identity_init(jax.random.key(0), (taps, 4, 4), jnp.float32)
  np.testing.assert_array_equal(kernel.sum(0), np.eye(4))
  x = jnp.broadcast_to(clip(1, 1, 2, 2, 4), (1, 4, 2, 2, 4))
  down, _ = run(TemporalDownsample(cfg, Frames(4), Frames(2)), x)
  up, _ = run(TemporalUpsample(cfg, Frames(2), Frames(4)), down)
  np.testing.assert_array_equal(up, x)


def test_he_init_is_random():
  temporal = dataclasses.replace(CFG.temporal, init="he")
  x = clip(1, 4, 2, 2, 4)
  cfg = dataclasses.replace(CFG, temporal=temporal)
  y, params = run(TemporalDownsample(cfg, Frames(4), Frames(2)), x)
  assert np.abs(y - x[:, ::2]).max() > 0.1
  assert np.abs(params["conv"]["kernel"][0]).max() > 0


@pytest.mark.parametrize("block", [ConvInflation, AttentionInflation])
@pytest.mark.parametrize("conditioned", [False, True])
def test_inflation_blocks_start_as_the_identity(block, conditioned):
  x, emb = clip(2, 4, 2, 2, 8), clip(2, 4, 6, seed=1) if conditioned else None
  y, params = run(block(CFG, Frames(4)), x, emb)
  np.testing.assert_array_equal(y, x)
  assert ("emb_proj" in params) == conditioned
  assert np.abs(params["proj"]["kernel"]).max() == 0
  # Only the projection is zero: its gradient is not, so the block can learn.
  module = block(CFG, Frames(4))

  def loss(params):
    return jnp.square(module.apply({"params": params}, x, emb) - 1).sum()

  gradient = jax.grad(loss)(params)
  assert np.abs(gradient["proj"]["kernel"]).max() > 1e-3


def test_conv_inflation_reaches_one_frame_each_way():
  module = ConvInflation(CFG, Frames(7))
  x = clip(1, 7, 2, 2, 8)
  params = module.init(jax.random.key(0), x, None)["params"]
  params["proj"]["kernel"] = clip(8, 8, seed=1)

  def change(frame):
    moved = module.apply({"params": params}, x.at[:, frame].add(1.0), None)
    difference = moved - module.apply({"params": params}, x, None)
    return np.flatnonzero(np.abs(difference).max((0, 2, 3, 4)))

  np.testing.assert_array_equal(change(3), [2, 3, 4])
  np.testing.assert_array_equal(change(0), [0, 1])


@pytest.mark.parametrize(
  ("block", "reached"),
  [(ConvInflation, [1, 2, 3]), (AttentionInflation, range(6))],
)
def test_each_frame_is_conditioned_by_its_own_embedding(block, reached):
  """Only neighbours in reach of the block hear of another frame's."""
  module = block(CFG, Frames(6))
  x, emb = clip(1, 6, 2, 2, 8), clip(1, 6, 5, seed=1)
  params = module.init(jax.random.key(0), x, emb)["params"]
  params["proj"]["kernel"] = clip(8, 8, seed=2)
  before = module.apply({"params": params}, x, emb)
  after = module.apply({"params": params}, x, emb.at[:, 2].add(1.0))
  change = np.abs(after - before).max((0, 2, 3, 4))
  np.testing.assert_array_equal(np.flatnonzero(change), reached)
  assert change.argmax() == 2


def test_attention_sees_all_frames_of_its_pixel_only():
  module = AttentionInflation(CFG, Frames(6))
  x = clip(1, 6, 2, 2, 8)
  params = module.init(jax.random.key(0), x, None)["params"]
  params["proj"]["kernel"] = clip(8, 8, seed=1)
  y = module.apply({"params": params}, x, None)
  moved = module.apply({"params": params}, x.at[:, 5, 0, 1].multiply(-2), None)
  change = np.abs(moved - y).max((0, 4))
  assert (change[:, 0, 1] > 1e-6).all()
  assert change[:, [0, 1, 1], [0, 0, 1]].max() == 0


def test_attention_knows_the_order_of_frames():
  module = AttentionInflation(CFG, Frames(6))
  x = clip(1, 6, 2, 2, 8)
  params = module.init(jax.random.key(0), x, None)["params"]
  params["proj"]["kernel"] = clip(8, 8, seed=1)
  forward = module.apply({"params": params}, x, None)
  backward = module.apply({"params": params}, x[:, ::-1], None)[:, ::-1]
  assert np.abs(forward - backward).max() > 1e-3
