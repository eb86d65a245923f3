# SPDX-License-Identifier: Apache-2.0
r"""Lumiere's super-resolution at the paper's size, 128 to 1024 px (§3.2).

The paper inflates a text-to-image super-resolution model that is not public:
both stages are trained, the first on stills.

python -m lumiere_jax.train --config=configs/ssr_1024.py \
  --workdir=runs/ssr_image --text_encoder=weights/t5_xxl \
  --config.train.stage=image --config.model.temporal=None
python -m lumiere_jax.train --config=configs/ssr_1024.py \
  --workdir=runs/ssr_video --text_encoder=weights/t5_xxl \
  --init_from=runs/ssr_image/weights

It trains on crops of segments and samples segments of 16 frames that share 2.
The widths are ours, after Imagen's (arXiv 2205.11487, appendix F.1): fine
levels are narrow, and the coarsest alone attends. For small memory add
--config.windows.tile_px=512 --config.windows.tile_overlap_px=64.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="ssr_1024",
      model=dict(
        in_channels=6,
        block_out_channels=(128, 256, 512, 1024),
        layers_per_block=(2, 2, 4, 8),
        attention=(False, False, False, True),
        only_cross_attention=True,
        mid_block_only_cross_attention=True,
        cross_attention_dim=1024,
        encoder_hid_dim=4096,
        addition_embed_heads=64,
        class_embed_type="timestep",
        patch_size=4,
        dtype="bfloat16",
        remat="blocks",
        temporal=dict(resample=False),
      ),
      condition=dict(kind="low_res", scale=8, max_level=300),
      diffusion=dict(
        schedule=dict(
          name="cosine",
          # 2 log(64 / 1024): as much noise per area as at 64 px (arXiv
          # 2301.11093).
          logsnr_shift=-5.545177444479562,
          zero_terminal_snr=True,
        ),
        prediction="v",
      ),
      sampler=dict(name="ddpm", steps=50, guidance=1.0, threshold="dynamic"),
      windows=dict(frames=16, overlap=2),
      text=dict(encoder="t5", max_tokens=77, dtype="bfloat16"),
      data=dict(size_px=1024, segment_frames=16, crop_px=256),
      train=dict(stage="video", batch_size=64, learning_rate=1e-4),
    )
  )
