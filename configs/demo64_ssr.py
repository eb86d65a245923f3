# SPDX-License-Identifier: Apache-2.0
r"""Stage 2 of demo64's super-resolution, 64 to 256 pixels: segments.

python -m lumiere_jax.train --config=configs/demo64_ssr.py \
  --workdir=runs/ssr64 --init_from=runs/ssr64_t2i/weights
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo64_ssr",
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
        temporal=dict(resample=False, attention_head_dim=48),
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
        segment_frames=16,
        crop_px=128,
      ),
      sampler=dict(
        name="dpmpp_2m",
        steps=2,
        guidance=1.0,
        threshold="static",
        known_low_res=True,
        detail_floor=3 / 127.5,  # gray levels
      ),
      windows=dict(frames=16, overlap=2),
      train=dict(
        stage="video",
        steps=6000,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=100,
        schedule="constant",
        decay_steps=1000,
        ema_decay=0.998,
        init_from="runs/ssr64_t2i/weights",
        weights_dtype="float16",
        log_every=50,
        checkpoint_every=250,
        watchdog_seconds=0.0,  # It may be paused for hours.
      ),
    )
  )
