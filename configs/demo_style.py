# SPDX-License-Identifier: Apache-2.0
r"""A drawing style for the demo: its image model on stills of other drawings.

npm pack @discordapp/twemoji@16.0.1
python -m lumiere_jax.data.styles --style=twemoji --npm=. --like=sprites \
  --out=sprites_twemoji
python -m lumiere_jax.data.write --config=demo32 --sprites=sprites_twemoji \
  --data_dir=data_twemoji
python -m lumiere_jax.train --config=configs/demo_style.py \
  --workdir=runs/twemoji --config.data.data_dir=data_twemoji
python -m lumiere_jax.export_weights --to=delta --base=demo --rank=16 \
  --src=runs/twemoji/weights --out=weights/twemoji
python -m lumiere_jax.sample --config=configs/demo.py \
  --style=weights/twemoji --style_alpha=0.7 --prompt="a ghost spinning"
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo_style",
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
        steps=1500,
        batch_size=32,
        learning_rate=5e-4,
        warmup_steps=50,
        ema_decay=0.995,
        init_from="demo",
        log_every=50,
        checkpoint_every=500,
      ),
    )
  )
