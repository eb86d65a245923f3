# SPDX-License-Identifier: Apache-2.0
r"""Super-resolution on DeepFloyd IF-II-L: 64 to 256 px, inflated.

python -m lumiere_jax.import_weights --from=diffusers-unet \
  --src=DIR/IF-II-L-v1.0/unet --out=weights/if_ii_l
python -m lumiere_jax.train --config=configs/if_ii_l.py --workdir=runs/if_ii_l \
  --init_from=weights/if_ii_l

It sees segments of 16 frames (section 3.2). The widths are inferred from the
published size (1.2 billion parameters). An imported configuration tells the
real ones; `model` here must then be set to them.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="if_ii_l",
      model=dict(
        in_channels=6,
        out_channels=6,
        block_out_channels=(192, 384, 768, 1152, 1152),
        layers_per_block=(2, 2, 3, 5, 5),
        attention=(False, False, False, True, True),
        only_cross_attention=True,
        mid_block_only_cross_attention=True,
        cross_attention_dim=1152,
        encoder_hid_dim=4096,
        addition_embed_heads=64,
        class_embed_type="timestep",
        time_embedding_dim=1152,
        time_embedding_act_fn="gelu",
        resnet_skip_time_act=True,
        resnet_out_scale_factor=1 / 0.7071,
        mid_block_scale_factor=1 / 0.7071,
        mask_text="none",
        dtype="bfloat16",
        remat="blocks",
        temporal=dict(resample=False),
      ),
      condition=dict(kind="low_res", scale=4, align_corners=True),
      diffusion=dict(
        schedule=dict(name="cosine"),
        prediction="eps",
        variance="learned",
      ),
      sampler=dict(
        name="ddpm",
        steps=50,
        spacing="leading",
        guidance=4.0,
        threshold="dynamic",
        threshold_max=1.0,
      ),
      text=dict(encoder="t5", lower_case=True, max_tokens=77, dtype="bfloat16"),
      data=dict(size_px=256, num_frames=16),
      train=dict(stage="video", batch_size=64, learning_rate=1e-4),
    )
  )
