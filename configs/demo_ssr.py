# SPDX-License-Identifier: Apache-2.0
"""Stage 2 of the demo's super-resolution, 32 to 128 pixels: segments.

python -m lumiere_jax.train --config=configs/demo_ssr.py --workdir=runs/ssr \
  --init_from=runs/ssr_t2i_2/weights
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo_ssr",
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
        temporal=dict(resample=False, attention_head_dim=44),
      ),
      condition=dict(kind="low_res", scale=4, max_level=300),
      diffusion=dict(
        schedule=dict(name="cosine", zero_terminal_snr=True),
        # A patch has 48 values, as many as the finest level has channels: no
        # room to pass noise on beside the picture (arXiv 2511.13720).
        prediction="x0",
        weighting="uniform",
      ),
      data=dict(
        config="demo128",
        size_px=128,
        segment_frames=16,
        crop_px=64,
      ),
      sampler=dict(
        name="dpmpp_2m",
        steps=2,
        guidance=1.0,
        threshold="static",
        known_low_res=True,
        detail_floor=3 / 127.5,  # grey levels
      ),
      windows=dict(frames=16, overlap=2),
      train=dict(
        stage="video",
        steps=1200,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=100,
        ema_decay=0.995,
        init_from="runs/ssr_t2i_2/weights",
        weights_dtype="float16",
        log_every=25,
        checkpoint_every=150,
      ),
    )
  )
