# SPDX-License-Identifier: Apache-2.0
r"""The shipped cascade: text to 80 frames at 32 pixels, enlarged to 128.

python -m lumiere_jax.sample --config=configs/demo_cascade.py \
  --prompt="a ghost spinning"

`sampler` is of the base model, `upscaler_sampler` of super-resolution, which
sees segments of 16 frames that share 2, merged at every step.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo_cascade",
      weights="demo",
      conditional="demo_cond",
      upscaler="demo_ssr",
      sampler=dict(
        name="dpmpp_2m",
        steps=12,
        guidance=4.0,
        guidance_interval=(0.4, 1.0),
        threshold="static",
        known_pixels=True,
      ),
      upscaler_sampler=dict(
        name="dpmpp_2m",
        steps=2,
        guidance=1.0,
        threshold="static",
        # The base's clips flicker: super-resolution is told to trust them less.
        low_res_level=100,
      ),
      upscaler_windows=dict(frames=16, overlap=2),
    )
  )
