# SPDX-License-Identifier: Apache-2.0
r"""Stage 2 of the demo: the temporal parameters of the STUNet on clips.

python -m lumiere_jax.train --config=configs/demo_t2v.py --workdir=runs/t2v \
  --init_from=runs/t2i/weights
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo_t2v",
      model=dict(
        block_out_channels=(48, 96, 144),
        layers_per_block=1,
        attention=(False, True, True),
        attention_head_dim=48,
        cross_attention_dim=192,
        norm_num_groups=16,
        act_fn="silu",
        patch_size=2,
        temporal=dict(attention_head_dim=48, conditioned=True),
      ),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        prediction="v",
        weighting="uniform",
        timestep_shift=20.0,
      ),
      data=dict(config="demo32", size_px=32),
      train=dict(
        stage="video",
        steps=2600,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=100,
        ema_decay=0.995,
        init_from="runs/t2i/weights",
        weights_dtype="float16",
        log_every=25,
        checkpoint_every=100,
        sample_every=200,
        sample_prompts=(
          "a dolphin jumping on a yellow background",
          "a ghost sliding to the left on a red background",
        ),
      ),
    )
  )
