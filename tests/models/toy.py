# SPDX-License-Identifier: Apache-2.0
"""A configuration whose network compiles in seconds, for whole programs."""

from lumiere_jax.config import from_dict, to_dict
from lumiere_jax.weights import folder
from tests.models.nets import randomised

CONFIG = {
  "name": "toy",
  "model": {
    "block_out_channels": (8, 16),
    "attention": (False, True),
    "attention_head_dim": 8,
    "cross_attention_dim": 32,
    "encoder_hid_dim": 8,
    "addition_embed_heads": 2,
    "norm_num_groups": 4,
    "temporal": {"attention_head_dim": 8},
  },
  "data": {"num_frames": 80, "size_px": 8},
  "train": {"stage": "video"},
  "sampler": {"name": "ddpm", "steps": 3, "guidance": 2.0},
}


def save(path):
  """Writes a weights folder of the network, with random weights."""
  config = from_dict(CONFIG)
  folder.save(
    path, randomised(config.model), to_dict(config), "licence", dtype="float16"
  )
  return path
