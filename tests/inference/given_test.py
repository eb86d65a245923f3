# SPDX-License-Identifier: Apache-2.0
"""Sampling from more than noise: what is given of a clip, and SDEdit."""

import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import media
from lumiere_jax.conditioning.task import Given
from lumiere_jax.config import DiffusionConfig, SamplerConfig
from lumiere_jax.diffusion.prediction import from_output
from lumiere_jax.diffusion.sampler import sample, sample_keys
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.inference.generate import Generator, Start, Text

SHAPE = (4, 2, 2, 3)
CFG = DiffusionConfig(prediction="x0")
TEXT = Text(np.ones((2, 1, 1), np.float16), np.ones((2, 1), bool))
NEGATIVE = Text(np.zeros((1, 1, 1), np.float16), np.ones((1, 1), bool))
KEYS = sample_keys(0, [0, 1])
CLIP = np.random.default_rng(0).integers(0, 256, (2, *SHAPE), np.uint8)


def sees_all(seen):
  """Predicts the mean of the channels beside noise; notes what it saw."""

  def apply(params, x, t, text, mask):
    seen.append(x.shape)
    beside = x[..., 3:]
    if not beside.shape[-1]:
      return 0.3 * x + 0.1 * text[:, :1, :1, None, None]
    return jnp.broadcast_to(beside.mean(-1, keepdims=True), x[..., :3].shape)

  return apply


def generator(seen=None, **fields):
  plain = {"name": "dpmpp_2m", "steps": 6, "guidance": 1.0, "threshold": "none"}
  return Generator(
    sees_all([] if seen is None else seen),
    SHAPE,
    CFG,
    SamplerConfig(**(plain | fields)),
  )


def given(mask):
  return Given(CLIP, np.broadcast_to(mask, (2, *SHAPE[:-1], 1)))


FIRST = (np.arange(4) == 0)[:, None, None, None]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_channels_are_noise_then_what_is_given_then_the_mask(guidance):
  seen = []
  make = generator(seen, guidance=guidance)
  x = make({}, TEXT, NEGATIVE, KEYS, given=given(FIRST))
  assert {shape[-1] for shape in seen} == {7}
  clean = np.asarray(media.to_float(CLIP))
  beside = np.concatenate([FIRST * clean, FIRST + 0 * clean[..., :1]], -1)
  expected = np.broadcast_to(beside.mean(-1, keepdims=True), x.shape)
  np.testing.assert_allclose(x, expected, atol=1e-5)


def test_what_is_not_given_is_not_seen():
  other = Given(np.where(FIRST, CLIP, 255 - CLIP), given(FIRST).mask)
  make = generator()
  np.testing.assert_array_equal(
    make({}, TEXT, NEGATIVE, KEYS, given=given(FIRST)),
    make({}, TEXT, NEGATIVE, KEYS, given=other),
  )


def test_known_pixels_hold_during_sampling():
  x = generator(known_pixels=True)({}, TEXT, NEGATIVE, KEYS, given=given(FIRST))
  np.testing.assert_allclose(
    x[:, 0], media.to_float(CLIP)[:, 0], rtol=1e-5, atol=1e-6
  )


def test_masks_of_one_shape_share_a_program():
  make, masks = generator(), (FIRST, ~FIRST, FIRST & False)
  for mask in masks:
    make({}, TEXT, NEGATIVE, KEYS, given=given(mask))
  assert make._advance._cache_size() == 1


def test_strength_0_is_the_clip_and_1_is_plain_sampling():
  make = generator()
  kept = make({}, TEXT, NEGATIVE, KEYS, start=Start(CLIP, 0.0))
  np.testing.assert_array_equal(media.to_uint8(kept), CLIP)
  np.testing.assert_array_equal(
    make({}, TEXT, NEGATIVE, KEYS, start=Start(CLIP, 1.0)),
    make({}, TEXT, NEGATIVE, KEYS),
  )


@pytest.mark.parametrize("name", ["dpmpp_2m", "ddim", "ddpm"])
def test_part_of_the_strength_is_the_tail_of_the_sampler(name):
  cfg = {"name": name, "eta": 0.5}
  make, told = generator(**cfg), []
  start = Start(CLIP, 0.5)
  x = make({}, TEXT, NEGATIVE, KEYS, lambda: told.append(0), start=start)
  assert len(told) == 3 and make.first_step(0.5) == 3
  schedule = make_schedule(CFG.schedule)
  tail = make._timesteps[3:]
  noised = make._begin_at(KEYS, CLIP, tail[0]).x
  assert float(jnp.abs(noised - media.to_float(CLIP)).mean()) > 0.1

  def denoise(x, t):
    output = sees_all([])({}, x, t, jnp.ones((2, 1, 1)), None)
    return from_output(output, x, t, schedule, "x0", False)

  sampler = SamplerConfig(steps=6, guidance=1.0, threshold="none", **cfg)
  expected = sample(
    denoise, noised, KEYS, schedule, sampler, CFG.variance, tail
  )
  np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)


def test_a_clip_of_a_batch_is_the_clip_alone():
  make = generator(known_pixels=True)
  both = make({}, TEXT, NEGATIVE, KEYS, given=given(FIRST))
  one = Text(*(x[1:] for x in TEXT))
  alone = make(
    {}, one, NEGATIVE, KEYS[1:], given=Given(*(x[1:] for x in given(FIRST)))
  )
  np.testing.assert_allclose(both[1], alone[0], atol=1e-6)
