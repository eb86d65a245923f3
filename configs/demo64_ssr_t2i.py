# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of demo64's super-resolution, 64 to 256 pixels: stills.

python -m lumiere_jax.train --config=configs/demo64_ssr_t2i.py \
  --workdir=runs/ssr64_t2i
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo64_ssr_t2i",
      model=dict(
        in_channels=6,
        block_out_channels=(64, 96),
        layers_per_block=1,
        attention=(False, True),
        attention_head_dim=48,
        cross_attention_dim=96,
        norm_num_groups=16,
        act_fn="silu",
        patch_size=8,
        class_embed_type="timestep",
      ),
      condition=dict(kind="low_res", scale=4, max_level=300),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        # A patch has 192 values, more than the finest level has channels: no
        # room to pass noise on with the picture (arXiv 2511.13720).
        prediction="x0",
        weighting="uniform",
      ),
      text=dict(batch_size=64),
      data=dict(
        kind="sprites",
        data_dir="sprites256",
        config="world",
        size_px=256,
        crop_px=128,
      ),
      train=dict(
        stage="image",
        steps=20_000,
        batch_size=32,
        learning_rate=1e-3,
        warmup_steps=200,
        schedule="constant",
        decay_steps=2000,
        ema_decay=0.998,
        log_every=50,
        checkpoint_every=500,
        watchdog_seconds=0.0,  # It may be paused for hours.
      ),
    )
  )
