# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of demo64: the text-to-image U-Net on stills of 200 objects.

python -m lumiere_jax.train --config=configs/demo64_t2i.py --workdir=runs/t2i64
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo64_t2i",
      model=dict(
        block_out_channels=(64, 96, 144),
        layers_per_block=1,
        attention=(False, True, True),
        attention_head_dim=48,
        cross_attention_dim=192,
        norm_num_groups=16,
        act_fn="silu",
        patch_size=4,
      ),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        prediction="x0",
        weighting="uniform",
      ),
      text=dict(batch_size=64),
      data=dict(kind="sprites", data_dir="sprites", config="world", size_px=64),
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
