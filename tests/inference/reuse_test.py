# SPDX-License-Identifier: Apache-2.0
"""Sampling programs whose steps take from earlier ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build
from lumiere_jax.compiling import compiler_options
from lumiere_jax.config import (
  Config,
  DataConfig,
  DiffusionConfig,
  SamplerConfig,
  TrainConfig,
  WindowsConfig,
)
from lumiere_jax.diffusion.guidance import guided, thresholded
from lumiere_jax.diffusion.prediction import denoiser
from lumiere_jax.diffusion.sampler import (
  make_step,
  sample_keys,
)
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.errors import UserError
from lumiere_jax.inference.generate import Generator, Start, Text
from lumiere_jax.models.stunet import STUNet
from tests.models import nets

SAMPLER = SamplerConfig(
  name="ddim", steps=6, guidance=3.0, guidance_interval=(0.3, 1.0)
)
MODEL = nets.inflated(nets.IMAGE)
CFG = Config(
  model=MODEL,
  data=DataConfig(size_px=8, num_frames=8),
  sampler=SAMPLER,
  train=TrainConfig(stage="video"),
)
BOTH = dict(guidance_every=2, deep_every=3)
KEYS = sample_keys(3, [0, 1])


def texts(count, seed=0):
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(count, 5, MODEL.encoder_hid_dim))
  return Text(features.astype(np.float32), np.ones((count, 5), bool))


TEXT, NEGATIVE = texts(2), texts(1, 1)


@functools.cache
def generator(cfg=CFG, **fields):
  sampler = dataclasses.replace(cfg.sampler, **fields)
  return build.generator(cfg, "text_to_video", sampler)


def made(make, params=None, **inputs):
  params = nets.randomised(MODEL) if params is None else params
  return np.asarray(make(params, TEXT, NEGATIVE, KEYS, **inputs))


def difference(a, b):
  return np.abs(a - b).max()


@pytest.mark.parametrize(
  "fields",
  [
    dict(guidance_interval=(0.0, 1.0)),
    # There is nothing that could be reused.
    dict(guidance_interval=(0.0, 1.0), guidance=1.0, guidance_every=2),
    dict(guidance_interval=(0.0, 1.0), name="dpmpp_2m", deep_level=7),
  ],
)
def test_without_reuse_the_program_is_the_plain_one(fields):
  """Letter by letter that of `guided`, `denoiser`, `thresholded` and a loop."""
  make = generator(**fields)
  sampler = dataclasses.replace(SAMPLER, **fields)
  schedule, net = make_schedule(CFG.diffusion.schedule), STUNet(MODEL)

  @functools.partial(
    jax.jit, donate_argnames="carry", compiler_options=compiler_options(None)
  )
  def advance(params, carry, text, negative, given, low, keys, steps):
    def network(x, t, words):
      return net.apply({"params": params}, x, t, *words)

    output = guided(network, text, negative, sampler.guidance)
    denoise = thresholded(
      denoiser(output, schedule, CFG.diffusion), schedule, sampler
    )
    step = make_step(denoise, keys, schedule, sampler, CFG.diffusion.variance)
    return jax.lax.fori_loop(*steps, step, carry)

  carry = jax.eval_shape(make._begin, KEYS)
  assert carry.reused is None
  params, steps = build.abstract_params(MODEL), (jnp.int32(0), jnp.int32(1))
  lowered = advance.lower(
    params, carry, TEXT, NEGATIVE, None, None, KEYS, steps
  )
  assert make.lower(params, TEXT, NEGATIVE).as_text() == lowered.as_text()


@pytest.mark.parametrize(
  "fields",
  [
    BOTH,
    pytest.param(dict(guidance_every=2), marks=pytest.mark.full),
    pytest.param(dict(deep_every=3), marks=pytest.mark.full),
  ],
)
def test_it_is_another_clip_with_reuse(fields):
  exact = made(generator())
  clip = made(generator(**fields))
  assert clip.shape == exact.shape and np.isfinite(clip).all()
  assert difference(clip, exact) > 1e-3


@pytest.mark.parametrize("fields", [{}, dict(guidance_every=2)])
def test_a_deep_part_that_never_changes_is_reused_exactly(fields):
  """All that `up_1` hands up is zero."""
  params = dict(nets.randomised(MODEL))
  params["up_1"] = jax.tree.map(jnp.zeros_like, params["up_1"])
  exact, clip = (
    made(generator(**fields, **more), params)
    for more in ({}, {"deep_every": 3})
  )
  assert np.abs(exact).max() > 0.1
  np.testing.assert_allclose(clip, exact, atol=1e-4)


def test_a_call_a_step_is_the_whole_loop_of_one_program():
  make, told = generator(**BOTH), []
  make.compile(nets.randomised(MODEL), TEXT, NEGATIVE)
  whole = made(make)
  stepped = made(make, on_step=lambda: told.append(0))
  np.testing.assert_array_equal(whole, stepped)
  assert len(told) == 6
  # The second request, and another caption, neither.
  again = make(nets.randomised(MODEL), texts(2, 5), NEGATIVE, KEYS)
  assert difference(again, whole) > 1e-3
  np.testing.assert_array_equal(made(make), whole)
  assert make._advance._cache_size() == make._begin._cache_size() == 1


def toy(calls, **fields):
  """A generator of a network of closed form that notes the batch it sees."""

  def apply(params, x, t, text, mask):
    jax.debug.callback(lambda: calls.append(len(x)))
    level = (text[:, 0, 0] + t / 1000) / 10
    return params * x + level[:, None, None, None, None]

  sampler = SamplerConfig(
    name="ddim", steps=5, guidance=3.0, threshold="none", **fields
  )
  return Generator(apply, (4, 2, 2, 3), DiffusionConfig(), sampler)


def test_the_first_step_that_is_made_is_whole_wherever_it_begins():
  calls = []
  make = toy(calls, guidance_every=2)
  clip = np.zeros((2, 4, 2, 2, 3), np.uint8)
  for first in (0, 1, 2):
    calls.clear()
    start = Start(clip, 1 - first / 5) if first else None
    assert not first or make.first_step(start.strength) == first
    made(make, jnp.float32(0.5), start=start, on_step=jax.effects_barrier)
    assert calls == [4, 2, 4, 2, 4][: 5 - first]


def test_a_constant_difference_is_guidance_at_every_step():
  params = jnp.float32(0.5)
  exact = made(toy([]), params)
  for every in (2, 3, 10):
    clip = made(toy([], guidance_every=every), params)
    np.testing.assert_allclose(clip, exact, rtol=1e-5, atol=1e-5)
  assert difference(
    exact, made(toy([], guidance_interval=(0.9, 1.0)), params)
  ) > (1e-3)


@pytest.mark.parametrize("task", ["text_to_image", "text_to_video"])
def test_images_too(task):
  make = build.generator(CFG, task, dataclasses.replace(SAMPLER, **BOTH))
  params = nets.randomised(MODEL)
  if task == "text_to_image":
    params = nets.randomised(nets.IMAGE)
  clip = make(params, TEXT, NEGATIVE, KEYS)
  assert clip.shape == (2, *([8] * (task != "text_to_image")), 8, 8, 3)
  assert np.isfinite(clip).all()


@pytest.mark.parametrize(
  ("changes", "fields", "message"),
  [
    ({}, dict(deep_every=2, deep_level=2), "sampler.deep_level=2 .* 1..1"),
    (
      dict(windows=WindowsConfig(frames=4)),
      dict(guidance_every=2),
      "sampler.guidance_every=2 .* windows.* 3 of them .* must be 1",
    ),
    (
      dict(windows=WindowsConfig(tile_px=4, tile_overlap_px=0)),
      dict(deep_every=2),
      "sampler.deep_every=2 .* windows.* 4 of them .* must be 1",
    ),
  ],
)
def test_what_cannot_be_reused_is_told(changes, fields, message):
  cfg = dataclasses.replace(CFG, **changes)
  with pytest.raises(UserError, match=message) as error:
    generator(cfg, **fields)
  assert "\n" not in str(error.value)
  generator(cfg, deep_level=2)  # Which says nothing while nothing is reused.


def test_one_window_of_the_whole_clip_is_no_hindrance():
  cfg = dataclasses.replace(CFG, windows=WindowsConfig(frames=8))
  clip, want = (made(generator(c, **BOTH)) for c in (cfg, CFG))
  np.testing.assert_array_equal(clip, want)
