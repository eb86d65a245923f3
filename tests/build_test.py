# SPDX-License-Identifier: Apache-2.0
"""The loss of a super-resolution network gives it what it starts from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build
from lumiere_jax.config import ConditionConfig, Config, DataConfig, TrainConfig
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.errors import UserError
from tests.models import nets
from tests.text.hash_encoder import HashTextEncoder

CONFIG = Config(
  model=dataclasses.replace(
    nets.inflated(nets.IMAGE, resample=False),
    in_channels=6,
    class_embed_type="timestep",
  ),
  condition=ConditionConfig(kind="low_res", scale=4),
  data=DataConfig(size_px=8, num_frames=2),
  train=TrainConfig(stage="video"),
)
ENCODER = HashTextEncoder(width=nets.IMAGE.encoder_hid_dim)


def batch(b):
  pixels = np.random.default_rng(0).integers(0, 256, (b, 2, 8, 8, 3), np.uint8)
  text, mask = ENCODER.encode([f"clip {i}" for i in range(b)])
  batch = {"pixels": pixels, "text": text, "mask": mask}
  return jax.tree.map(jnp.asarray, batch)


def test_super_resolution_learns_from_the_smaller_clip_and_its_noise_level():
  loss = build.loss_fn(CONFIG, ENCODER.empty)
  params = nets.randomised(CONFIG.model)

  def mean(params):
    return loss(params, batch(2), sample_keys(0, [0, 1]))[0].mean()

  grads = jax.jit(jax.grad(mean))(params)
  first = grads["conv_in"]["kernel"]
  assert first.shape[2] == 6
  assert float(jnp.abs(first[:, :, 3:]).max()) > 1e-4
  assert all(
    float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(grads["noise_level"])
  )


def test_super_resolution_starts_from_no_text_alone():
  with pytest.raises(UserError, match="enlarges what another one has made"):
    build.generator(CONFIG, "text_to_video")
