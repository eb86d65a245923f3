# SPDX-License-Identifier: Apache-2.0
"""Material of the large clip, brought to the size of the small one."""

import numpy as np

from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.task import Material, prepare
from lumiere_jax.inference.cascade import reduced

RNG = np.random.default_rng(0)
LARGE, SMALL, SCALE = Size(3, 8, 12), Size(3, 2, 3), 4


def _means(x):
  t, h, w, c = x.shape
  blocks = x.reshape(t, h // SCALE, SCALE, w // SCALE, SCALE, c)
  return blocks.mean(axis=(2, 4)).round().astype(np.uint8)


def test_pixels_are_means_of_blocks():
  video = RNG.integers(0, 256, (*LARGE, 3), np.uint8)
  small = reduced(Material(image=video[0], video=video, strength=0.5), SCALE)
  np.testing.assert_array_equal(small.video, _means(video))
  np.testing.assert_array_equal(small.image, _means(video)[0])
  assert small.strength == 0.5 and small.region is small.last_image is None


def test_what_is_given_small_is_given_large():
  video = RNG.integers(0, 256, (*LARGE, 3), np.uint8)
  region = np.zeros((1, *LARGE[1:], 1), np.float32)
  region[0, 3:5, 2] = 1
  large = Material(video=video, region=region)
  given = prepare("inpaint", reduced(large, SCALE), SMALL)
  whole = prepare("inpaint", large, LARGE)
  spread = given.mask.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
  assert whole.mask[spread].all()
  np.testing.assert_array_equal(
    given.mask[0, ..., 0], [[False, True, True], [False, True, True]]
  )
  np.testing.assert_array_equal(
    given.pixels[given.mask[..., 0]], _means(video)[given.mask[..., 0]]
  )
