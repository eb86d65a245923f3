# SPDX-License-Identifier: Apache-2.0
r"""The zero-shot protocol of UCF-101 (the paper's appendix) in one command.

python -m lumiere_jax.zero_shot --config=configs/ucf101_eval.py \
  --config.protocol.i3d=weights/i3d --config.protocol.c3d=weights/c3d \
  --config.protocol.real=data/UCF-101

10,235 clips by the classes' distribution, one prompt for each class in our own
wording, the first 16 frames. import_weights makes the two networks' folders; a
score whose network is not named is left out. What is made is kept in
protocol.work, where the same command goes on.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(
    dict(
      name="ucf101_eval",
      weights="demo",
      sampler=dict(
        name="dpmpp_2m",
        steps=12,
        guidance=4.0,
        guidance_interval=(0.4, 1.0),
        threshold="static",
        known_pixels=True,
      ),
      protocol=dict(
        clips=10_235,
        frames=16,
        seed=0,
        batch=1,
        i3d="",
        c3d="",
        real="",
        work="runs/ucf101_eval",
        keep_clips=False,
      ),
    )
  )
