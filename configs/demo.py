# SPDX-License-Identifier: Apache-2.0
r"""Samples with the shipped demo weights: text to an 80-frame clip at 32 px.

python -m lumiere_jax.sample --config=configs/demo.py \
  --prompt="a ghost spinning"

The network, the data and the text encoder are those in the weights' own
config.json; what stands here says how to sample.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="demo",
      weights="demo",
      conditional="demo_cond",
      sampler=dict(
        name="dpmpp_2m",
        steps=12,
        guidance=4.0,
        guidance_interval=(0.4, 1.0),
        threshold="static",
        known_pixels=True,
      ),
    )
  )
