# SPDX-License-Identifier: Apache-2.0
"""Small networks and inputs that several tests share."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import build, trees
from lumiere_jax.config import TemporalConfig, UNetConfig
from lumiere_jax.models.stunet import STUNet, is_temporal

IMAGE = UNetConfig(
  block_out_channels=(8, 16),
  layers_per_block=1,
  attention=(False, True),
  attention_head_dim=8,
  cross_attention_dim=32,
  encoder_hid_dim=12,
  addition_embed_heads=2,
  norm_num_groups=4,
)
TEMPORAL = TemporalConfig(attention_head_dim=8)


def inflated(cfg: UNetConfig, **fields) -> UNetConfig:
  temporal = dataclasses.replace(TEMPORAL, **fields)
  return dataclasses.replace(cfg, temporal=temporal)


def inputs(cfg: UNetConfig, *lead: int, h: int = 8, w: int = 4, seed: int = 0):
  """(x, t, text, mask) for a batch of `lead[0]`, with some padding tokens."""
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  b = lead[0]
  x = draw(*lead, h, w, cfg.in_channels)
  t = jnp.asarray(rng.integers(0, 1000, b), jnp.float32)
  mask = jnp.arange(5)[None] < jnp.asarray(rng.integers(2, 5, (b, 1)))
  return x, t, draw(b, 5, cfg.encoder_hid_dim), mask


@functools.cache
def randomised(cfg: UNetConfig, seed: int = 1):
  """Parameters drawn by NumPy: none is zero or identity, none compiled."""
  rng = np.random.default_rng(seed)

  def fill(leaf):
    fan_in = max(1, int(np.prod(leaf.shape[:-1])))
    value = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
    return jnp.asarray(value, leaf.dtype)

  return jax.tree.map(fill, build.abstract_params(cfg))


@functools.cache
def just_inflated(cfg: UNetConfig, seed: int = 1):
  """Random T2I parameters, and inflated ones that begin from them."""
  spatial = randomised(dataclasses.replace(cfg, temporal=None), seed)
  start = build.init_params(cfg, seed=0)
  return spatial, trees.merge(spatial, trees.select(start, is_temporal))


@functools.cache
def apply(cfg: UNetConfig):
  """The compiled network: (params, x, t, text, mask) -> output."""
  net = STUNet(cfg)
  return jax.jit(lambda params, *args: net.apply({"params": params}, *args))
