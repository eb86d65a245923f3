# SPDX-License-Identifier: Apache-2.0
r"""Lumiere on DeepFloyd IF-I-L: 64 px, 0.9 billion spatial parameters.

python -m lumiere_jax.import_weights --from=diffusers-unet \
  --src=DIR/IF-I-L-v1.0/unet --out=weights/if_l
python -m lumiere_jax.sample --config=configs/if_l.py \
  --task=text_to_image --weights=weights/if_l --text_encoder=weights/t5_xxl \
  --prompt="a photo of a lighthouse in a storm"
python -m lumiere_jax.train --config=configs/if_l.py --workdir=runs/if_l \
  --init_from=weights/if_l

The widths are inferred from the published size (0.9 billion parameters); the
imported weights' own configuration takes the place of `model` here.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="if_l",
      model=dict(
        out_channels=6,
        block_out_channels=(320, 640, 960, 1280),
        layers_per_block=3,
        attention=(False, True, True, True),
        cross_attention_dim=1280,
        encoder_hid_dim=4096,
        addition_embed_heads=64,
        mask_text="none",
        dtype="bfloat16",
        remat="blocks",
        temporal=dict(),
      ),
      diffusion=dict(
        schedule=dict(name="cosine"),
        prediction="eps",
        variance="learned",
      ),
      sampler=dict(
        name="ddpm",
        steps=100,
        spacing="leading",
        guidance=7.0,
        threshold="dynamic",
      ),
      text=dict(encoder="t5", lower_case=True, max_tokens=77, dtype="bfloat16"),
      data=dict(size_px=64),
      train=dict(stage="video", batch_size=64, learning_rate=1e-4),
    )
  )
