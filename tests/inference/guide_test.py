# SPDX-License-Identifier: Apache-2.0
"""Sampling programs that push away from a worse network (autoguidance)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build, trees
from lumiere_jax.conditioning.task import Given
from lumiere_jax.config import (
  ConditionConfig,
  Config,
  DataConfig,
  DiffusionConfig,
  SamplerConfig,
  TrainConfig,
  WindowsConfig,
)
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.inference.asking import WithGuide
from lumiere_jax.inference.generate import Generator, Text
from lumiere_jax.models.sharded import make_apply
from lumiere_jax.models.stunet import is_temporal
from tests.models import nets

SHAPE = (8, 4, 4, 3)
KEYS = sample_keys(3, [0, 1])
PLAIN = dict(name="ddim", steps=4, guidance=1.0, threshold="none")
GUIDED = dict(guide="worse", guide_scale=1.75)


def texts(count, width, seed=0):
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(count, 5, width)).astype(np.float32)
  return Text(features, np.ones((count, 5), bool))


TEXT, NEGATIVE = texts(2, 4), texts(1, 4, seed=1)


def toy(seen, name):
  """A network of closed form that notes what every call that runs has seen."""

  def apply(params, x, t, text, mask, *level):
    jax.debug.callback(
      lambda *level: seen.append((name, x.shape, level)), *level
    )
    shift = (text[:, 0, 0] + t / 1000) / 10
    given = x[..., 3:].sum(-1, keepdims=True) / 10
    clip = params["clip"] * x[..., :3] + given
    return clip + params["text"] * shift[:, None, None, None, None]

  return apply


MAIN = {"clip": jnp.float32(0.5), "text": jnp.float32(1.0)}
WORSE = {"clip": jnp.float32(0.3), "text": jnp.float32(2.0)}


def generator(seen=None, windows=None, condition=None, **fields):
  seen = [] if seen is None else seen
  cfg = SamplerConfig(**(PLAIN | fields))
  apply = toy(seen, "main")
  if cfg.autoguided:
    apply = WithGuide(apply, toy(seen, "guide"))
  kind = DiffusionConfig(prediction="v")
  return Generator(apply, SHAPE, kind, cfg, windows, condition)


def made(make, params, **inputs):
  return np.asarray(make(params, TEXT, NEGATIVE, KEYS, **inputs))


def test_autoguidance_of_linear_networks_is_one_linear_network():
  """main + 0.75 (main - guide), in every step of the sampler."""
  want = {k: v + 0.75 * (v - WORSE[k]) for k, v in MAIN.items()}
  found = made(generator(**GUIDED), WithGuide(MAIN, WORSE))
  np.testing.assert_allclose(
    found, made(generator(), want), rtol=1e-4, atol=1e-5
  )
  assert np.abs(found - made(generator(), MAIN)).max() > 0.1


@pytest.mark.parametrize(
  ("fields", "calls"),
  [
    (dict(), [[2]] * 4),
    (dict(guidance=3.0), [[4]] * 4),
    (GUIDED, [[2, 2]] * 4),
    (GUIDED | dict(guidance=3.0), [[4, 2]] * 4),
    # Timesteps 999, 749, 499, 249.
    (GUIDED | dict(guidance_interval=(0.4, 0.8)), [[2], [2, 2], [2, 2], [2]]),
  ],
)
def test_calls_of_each_step(fields, calls):
  """The batch of the network, then that of the guide."""
  seen, steps = [], []

  def on_step():
    jax.effects_barrier()
    names = dict((name, shape[0]) for name, shape, _ in seen)
    assert len(names) == len(seen)
    steps.append([names[name] for name in ("main", "guide") if name in names])
    seen.clear()

  make = generator(seen, **fields)
  params = WithGuide(MAIN, WORSE) if "guide" in fields else MAIN
  made(make, params, on_step=on_step)
  assert steps == calls


def test_parameters_of_the_guide_are_arguments_of_the_program():
  make = generator(guidance=3.0, **GUIDED)
  make.compile(WithGuide(MAIN, WORSE), TEXT, NEGATIVE)
  clip = made(make, WithGuide(MAIN, WORSE))
  other = made(make, WithGuide(MAIN, {**WORSE, "text": jnp.float32(0.0)}))
  assert np.abs(clip - other).max() > 0.01
  # One that is the network itself leaves text guidance, to rounding.
  same = made(make, WithGuide(MAIN, MAIN))
  np.testing.assert_allclose(
    same, made(generator(guidance=3.0), MAIN), rtol=1e-4, atol=1e-5
  )
  assert make._advance._cache_size() == 1
  lowered = make.lower(WithGuide(MAIN, WORSE), TEXT, NEGATIVE)
  assert len(jax.tree.leaves(lowered.in_avals[0][0])) == 4


def test_the_guide_sees_what_is_given():
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (2, *SHAPE), np.uint8)
  given = Given(pixels, rng.random((2, *SHAPE[:-1], 1)) < 0.5)
  seen = []
  clip = made(generator(seen, **GUIDED), WithGuide(MAIN, MAIN), given=given)
  jax.effects_barrier()
  assert {(name, shape[-1]) for name, shape, _ in seen} == {
    ("main", 7),
    ("guide", 7),
  }
  want = made(generator(), MAIN, given=given)
  np.testing.assert_allclose(clip, want, rtol=1e-4, atol=1e-5)


def test_the_guide_sees_the_enlarged_clip_and_its_level():
  low = np.random.default_rng(0).integers(0, 256, (2, 8, 2, 2, 3), np.uint8)
  condition = ConditionConfig(kind="low_res", scale=2)
  seen = []
  make = generator(seen, condition=condition, low_res_level=30, **GUIDED)
  clip = made(make, WithGuide(MAIN, MAIN), low=low)
  jax.effects_barrier()
  assert {name for name, _, _ in seen} == {"main", "guide"}
  for _, shape, (level,) in seen:
    assert shape[-1] == 6 and (np.asarray(level) == 30).all()
  make = generator(condition=condition, low_res_level=30)
  np.testing.assert_allclose(
    clip, made(make, MAIN, low=low), rtol=1e-4, atol=1e-5
  )


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_windows_of_the_guide_are_those_of_the_network(guidance):
  """These networks see each pixel alone: windows change nothing."""
  seen, params = [], WithGuide(MAIN, WORSE)
  windows = WindowsConfig(frames=4, overlap=1, per_call=2)
  fields = GUIDED | dict(guidance=guidance)
  parts = made(generator(seen, windows, **fields), params)
  jax.effects_barrier()
  assert {(name, shape[1]) for name, shape, _ in seen} == {
    ("main", 4),
    ("guide", 4),
  }
  whole = made(generator(**fields), params)
  np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)


# Real networks: the guide has one level of other width, and halves nothing.
CFG = Config(
  model=nets.inflated(nets.IMAGE),
  data=DataConfig(size_px=8, num_frames=8),
  sampler=SamplerConfig(
    **(PLAIN | GUIDED | dict(guidance=3.0, guidance_interval=(0.3, 1.0)))
  ),
  train=TrainConfig(stage="video"),
)
SMALL = dataclasses.replace(
  nets.IMAGE, block_out_channels=(16,), attention=(True,)
)
GUIDE = dataclasses.replace(CFG, model=nets.inflated(SMALL))


@functools.cache
def networks():
  return WithGuide(*(nets.randomised(c.model) for c in (CFG, GUIDE)))


@pytest.mark.parametrize("task", ["text_to_video", "text_to_image"])
def test_a_smaller_guide_is_the_combination_of_both_outputs(task):
  """Seen as one network, whose conditional output text guidance multiplies."""
  params = networks()
  if task == "text_to_image":
    params = WithGuide(*(trees.split(p, is_temporal)[1] for p in params))
  main, guide = (make_apply(build.task_model(c, task)) for c in (CFG, GUIDE))
  sampler = CFG.sampler

  def both(params, x, t, *words):
    """Of the double batch, whose second halves are of the negative prompt."""
    raw = main(params.main, x, t, *words)
    if len(x) == 2:
      return raw
    worse = guide(params.guide, x, t, *words)[::2]
    gain = (sampler.guide_scale - 1) / sampler.guidance
    return raw.at[::2].add(gain * (raw[::2] - worse))

  make = build.generator(CFG, task, guide=GUIDE)
  plain = dataclasses.replace(sampler, guide="", guide_scale=1.0)
  reference = Generator(both, make.shape, CFG.diffusion, plain)
  text, negative = texts(2, 12), texts(1, 12, seed=1)
  found = make(params, text, negative, KEYS)
  want = reference(params, text, negative, KEYS)
  np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
  silent = params._replace(guide=jax.tree.map(jnp.zeros_like, params.guide))
  other = make(silent, text, negative, KEYS)
  assert np.abs(found - other).max() > 1e-2
