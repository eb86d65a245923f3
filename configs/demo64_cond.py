# SPDX-License-Identifier: Apache-2.0
r"""The conditional model of demo64: clips of which part is given (section 4.2).

python -m lumiere_jax.train --config=configs/demo64_cond.py \
  --workdir=runs/cond64 --init_from=runs/t2v64/weights

From the text-to-video model: the first convolution is widened from 3 to 7
channels, and it and the temporal parameters train on masks of all tasks.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo64_cond",
      model=dict(
        in_channels=7,
        block_out_channels=(64, 96, 144),
        layers_per_block=1,
        attention=(False, True, True),
        attention_head_dim=48,
        cross_attention_dim=192,
        norm_num_groups=16,
        act_fn="silu",
        patch_size=4,
        temporal=dict(attention_head_dim=48, conditioned=True),
      ),
      condition=dict(kind="mask"),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        prediction="x0",
        weighting="v",
        weighting_cap=10.0,
        timestep_shift=5.0,
      ),
      text=dict(batch_size=64),
      data=dict(kind="sprites", data_dir="sprites", config="world", size_px=64),
      train=dict(
        stage="video",
        steps=12_000,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=100,
        schedule="constant",
        decay_steps=2000,
        ema_decay=0.998,
        init_from="runs/t2v64/weights",
        weights_dtype="float16",
        log_every=50,
        checkpoint_every=500,
        watchdog_seconds=0.0,  # It may be paused for hours.
      ),
    )
  )
