# SPDX-License-Identifier: Apache-2.0
r"""Lumiere's base at the paper's size: 80 frames of 128 px, about 2 billion
spatial parameters, as Imagen's base (section 5, appendix).

The paper's text-to-image weights are not public: both stages are trained.

python -m lumiere_jax.train --config=configs/lumiere_128.py \
  --workdir=runs/image --text_encoder=weights/t5_xxl \
  --config.train.stage=image --config.model.temporal=None
python -m lumiere_jax.train --config=configs/lumiere_128.py \
  --workdir=runs/video --text_encoder=weights/t5_xxl \
  --init_from=runs/image/weights

The widths are ours; the paper gives none. Three spatial and temporal
resamplings lead from 80 x 128 x 128 to 10 x 16 x 16.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="lumiere_128",
      model=dict(
        block_out_channels=(512, 1024, 1536, 2048),
        layers_per_block=(2, 2, 3, 3),
        attention=(False, False, True, True),
        cross_attention_dim=2048,
        encoder_hid_dim=4096,
        addition_embed_heads=64,
        dtype="bfloat16",
        remat="blocks",
        temporal=dict(),
      ),
      diffusion=dict(
        schedule=dict(
          name="cosine",
          # 2 log(64 / 128): as much noise per area as at 64 px (arXiv
          # 2301.11093).
          logsnr_shift=-1.3862943611198906,
          zero_terminal_snr=True,
        ),
        prediction="v",
      ),
      sampler=dict(name="ddpm", steps=100, guidance=7.0, threshold="dynamic"),
      text=dict(encoder="t5", max_tokens=77, dtype="bfloat16"),
      data=dict(size_px=128),
      train=dict(stage="video", batch_size=256, learning_rate=1e-4),
    )
  )
