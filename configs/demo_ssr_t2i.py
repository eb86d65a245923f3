# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of the demo's super-resolution, 32 to 128 pixels: stills.

python -m lumiere_jax.train --config=configs/demo_ssr_t2i.py \
  --workdir=runs/ssr_t2i
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo_ssr_t2i",
      model=dict(
        in_channels=6,
        block_out_channels=(48, 88),
        layers_per_block=1,
        attention=(False, True),
        attention_head_dim=44,
        cross_attention_dim=96,
        norm_num_groups=8,
        act_fn="silu",
        patch_size=4,
        class_embed_type="timestep",
      ),
      condition=dict(kind="low_res", scale=4, max_level=300),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        # A patch has 48 values, as many as the finest level has channels: no
        # room to pass noise on beside the picture (arXiv 2511.13720).
        prediction="x0",
        weighting="uniform",
      ),
      text=dict(batch_size=64),
      data=dict(config="demo128", size_px=128, crop_px=64),
      train=dict(
        stage="image",
        steps=4000,
        batch_size=32,
        learning_rate=1e-3,
        warmup_steps=200,
        ema_decay=0.998,
        log_every=50,
        checkpoint_every=500,
      ),
    )
  )
