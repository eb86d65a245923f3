# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of the demo: the text-to-image U-Net on stills of emoji_motion.

python -m lumiere_jax.train --config=configs/demo_t2i.py --workdir=runs/t2i
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo_t2i",
      model=dict(
        block_out_channels=(48, 96, 144),
        layers_per_block=1,
        attention=(False, True, True),
        attention_head_dim=48,
        cross_attention_dim=192,
        norm_num_groups=16,
        act_fn="silu",
        patch_size=2,
      ),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        prediction="v",
        weighting="uniform",
      ),
      text=dict(batch_size=64),
      data=dict(config="demo32", size_px=32),
      train=dict(
        stage="image",
        steps=5500,
        batch_size=64,
        learning_rate=1e-3,
        warmup_steps=200,
        ema_decay=0.998,
        log_every=50,
        checkpoint_every=500,
        sample_every=500,
        sample_prompts=(
          "a dolphin on a yellow background",
          "a ghost on a red background",
          "a rocket on a green background",
          "a panda on a blue background",
        ),
      ),
    )
  )
