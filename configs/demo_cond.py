# SPDX-License-Identifier: Apache-2.0
r"""The demo's conditional model: clips of which part is given (section 4.2).

python -m lumiere_jax.train --config=configs/demo_cond.py --workdir=runs/cond \
  --init_from=demo

From the text-to-video model: the first convolution is widened from 3 to 7
channels, and it and the temporal parameters train on masks of all tasks.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo_cond",
      model=dict(
        in_channels=7,
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
      condition=dict(kind="mask"),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        prediction="v",
        weighting="uniform",
        timestep_shift=5.0,
      ),
      data=dict(config="demo32", size_px=32),
      train=dict(
        stage="video",
        steps=1500,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=100,
        ema_decay=0.995,
        init_from="demo",
        weights_dtype="float16",
        log_every=25,
        checkpoint_every=150,
      ),
    )
  )
