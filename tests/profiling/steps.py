# SPDX-License-Identifier: Apache-2.0
"""Small networks, one call and one training step of them, compiled."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from lumiere_jax import build, sharding, trees
from lumiere_jax.config import (
  ConditionConfig,
  Config,
  DataConfig,
  DiffusionConfig,
  TemporalConfig,
  TextConfig,
  TrainConfig,
  UNetConfig,
)
from lumiere_jax.models.stunet import STUNet
from lumiere_jax.profiling.network import Call, count_network
from lumiere_jax.stage import abstract_batch, make_stage
from tests.text.hash_encoder import HashTextEncoder

TOKENS = 5
IMAGE = UNetConfig(
  block_out_channels=(16, 32),
  attention=(False, True),
  attention_head_dim=16,
  cross_attention_dim=32,
  encoder_hid_dim=24,
  addition_embed_heads=2,
  norm_num_groups=4,
)
TEMPORAL = TemporalConfig(attention_head_dim=16)
CLIP = replace(IMAGE, temporal=TEMPORAL)
NETWORKS = {
  "one_level": replace(IMAGE, block_out_channels=(16,), attention=(True,)),
  "image": IMAGE,
  "clip": CLIP,
  "told_each_frame": replace(
    CLIP, temporal=replace(TEMPORAL, conditioned=True), remat="blocks"
  ),
  "low_res": replace(
    CLIP,
    in_channels=6,
    class_embed_type="timestep",
    only_cross_attention=True,
    mid_block_only_cross_attention=True,
    temporal=replace(TEMPORAL, resample=False),
  ),
  "masked": replace(
    CLIP,
    in_channels=7,
    out_channels=6,
    layers_per_block=(1, 2),
    patch_size=2,
    mask_text="none",
    remat="blocks",
  ),
}
CONDITIONS = {"low_res": "low_res", "masked": "mask"}


def config(name: str, size_px: int = 16, num_frames: int = 2) -> Config:
  """A recipe whose network is one of NETWORKS."""
  cfg = NETWORKS[name]
  return Config(
    model=cfg,
    condition=ConditionConfig(kind=CONDITIONS.get(name, "none")),
    diffusion=DiffusionConfig(
      variance="learned" if cfg.out_channels == 6 else "fixed_small"
    ),
    data=DataConfig(size_px=size_px, num_frames=num_frames),
    text=TextConfig(max_tokens=TOKENS),
    train=TrainConfig(stage="video" if cfg.temporal else "image", batch_size=2),
  )


def call_of(cfg: Config, batch: int | None = None) -> Call:
  return Call(
    batch=batch or cfg.train.batch_size,
    frames=cfg.data.num_frames if cfg.model.temporal else 1,
    height=cfg.data.size_px,
    width=cfg.data.size_px,
    tokens=TOKENS,
  )


def network_call(cfg: UNetConfig, call: Call, sharding=None):
  """The lowered network; its arrays lie where `sharding` says."""

  def array(*shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

  b = call.batch
  lead = (b, call.frames) if cfg.temporal else (b,)
  inputs = [
    array(*lead, call.height, call.width, cfg.in_channels),
    array(b),
    array(b, call.tokens, cfg.encoder_hid_dim),
    array(b, call.tokens, dtype=jnp.bool_),
  ]
  if cfg.class_embed_type == "timestep":
    inputs.append(array(b))
  params = jax.tree.map(
    lambda x: array(*x.shape, dtype=x.dtype), build.abstract_params(cfg)
  )
  network = STUNet(cfg)
  return jax.jit(
    lambda params, *inputs: network.apply({"params": params}, *inputs)
  ).lower(params, *inputs)


def train_step(cfg: Config, device=None):
  """The account of a training step, and the lowered step."""
  encoder = HashTextEncoder(max_tokens=TOKENS, width=cfg.model.encoder_hid_dim)
  mesh = sharding.make_mesh(devices=[device or jax.devices()[0]])
  stage = make_stage(cfg, encoder.empty, mesh)
  network = count_network(
    cfg.model, call_of(cfg), trees.flatten(stage.like.params).__contains__
  )
  return network, stage.step.lower(stage.like, abstract_batch(cfg, mesh))
