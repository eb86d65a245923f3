# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import UNetConfig
from lumiere_jax.nn.attention import TextImageAttention
from lumiere_jax.nn.embed import AttentionPooling, sinusoid
from lumiere_jax.nn.norm import group_norm, text_norm
from lumiere_jax.nn.resnet import (
  ResnetBlock,
  depth_to_space,
  downsample,
  dropout,
  space_to_depth,
  upsample,
)

CFG = UNetConfig(
  norm_num_groups=4,
  attention_head_dim=4,
  encoder_hid_dim=8,
  cross_attention_dim=32,
  addition_embed_heads=2,
)


def draw(*shape, seed=0):
  return jnp.asarray(
    np.random.default_rng(seed).normal(size=shape), jnp.float32
  )


def test_group_norm_is_per_frame_and_group():
  x = draw(2, 3, 4, 5, 8) * 3 + 1
  module = group_norm(CFG, "norm")
  got = module.apply(module.init(jax.random.key(0), x), x)
  groups = np.asarray(x).reshape(2, 3, 20, 4, 2)
  mean = groups.mean((2, 4), keepdims=True)
  var = groups.var((2, 4), keepdims=True)
  want = ((groups - mean) / np.sqrt(var + CFG.norm_eps)).reshape(x.shape)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_text_norm_ignores_padding():
  x, mask = draw(1, 6, 64), jnp.arange(6) < 4
  mask = jnp.broadcast_to(mask[None, :, None], x.shape)
  module = text_norm(CFG, "norm")
  params = module.init(jax.random.key(0), x)
  got = module.apply(params, jnp.where(mask, x, 1e3), mask=mask)[:, :4]
  np.testing.assert_allclose(
    got, module.apply(params, x[:, :4]), rtol=1e-5, atol=1e-5
  )


def test_space_to_depth_keeps_patches_together():
  x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
  y = space_to_depth(x, 2)
  assert y.shape == (2, 2, 3, 12)
  np.testing.assert_array_equal(y[0, 1, 2].reshape(2, 2, 3), x[0, 2:4, 4:6])
  np.testing.assert_array_equal(depth_to_space(y, 2), x)


def test_spatial_resampling():
  x = draw(2, 3, 4, 6, 5)
  np.testing.assert_allclose(downsample(upsample(x)), x, rtol=1e-6)
  np.testing.assert_array_equal(upsample(x)[..., 1::2, ::2, :], x)


def test_sinusoid_starts_with_cosines():
  got = sinusoid(jnp.asarray([0.0, 10.0]), 8)
  np.testing.assert_array_equal(got[0], [1, 1, 1, 1, 0, 0, 0, 0])
  np.testing.assert_allclose(got[1, 1], np.cos(1.0), rtol=1e-5)
  np.testing.assert_allclose(got[1, 5], np.sin(1.0), rtol=1e-5)


@pytest.mark.parametrize("only_cross", [False, True])
def test_attention_does_not_know_where_a_pixel_is(only_cross):
  module = TextImageAttention(CFG, only_cross)
  x, text = draw(1, 4, 4, 8), draw(1, 3, 32, seed=1)
  params = module.init(jax.random.key(0), x, text)["params"]
  assert np.abs(params["to_out"]["kernel"]).max() == 0
  params["to_out"]["kernel"] = draw(8, 8, seed=2)
  y = module.apply({"params": params}, x, text)
  rolled = module.apply({"params": params}, jnp.roll(x, 1, axis=1), text)
  np.testing.assert_allclose(jnp.roll(y, 1, axis=1), rolled, atol=1e-5)
  assert ("to_k" in params) == (not only_cross)


def test_pooling_of_one_token_returns_its_value():
  module = AttentionPooling(CFG)
  x = draw(2, 1, 8)
  params = module.init(jax.random.key(0), x)["params"]
  params["position"] = jnp.zeros(8)
  got = module.apply({"params": params}, x)
  v = params["v"]
  np.testing.assert_allclose(got, x[:, 0] @ v["kernel"] + v["bias"], atol=1e-5)


def test_resnet_block_starts_as_its_shortcut_and_scales():
  cfg = dataclasses.replace(CFG, act_fn="silu")
  x, emb = draw(1, 4, 4, 8), draw(1, 6, seed=1)
  module = ResnetBlock(cfg, 8, resample="down", out_scale=2.0)
  got = module.apply(module.init(jax.random.key(0), x, emb), x, emb)
  np.testing.assert_allclose(got, downsample(x) / 2, rtol=1e-6)


def test_dropout_keeps_its_share_and_the_mean():
  x = jnp.ones((2, 50, 10, 4))
  y = dropout(x, jax.random.split(jax.random.key(0), 2), 0.25)
  assert abs(float((y == 0).mean()) - 0.25) < 0.03
  np.testing.assert_allclose(y[y != 0], 1 / 0.75, rtol=1e-6)
  assert (y[0] != y[1]).any()
