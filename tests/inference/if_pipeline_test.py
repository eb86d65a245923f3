# SPDX-License-Identifier: Apache-2.0
"""Sampling with IF's settings takes every step that its pipeline takes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build
from lumiere_jax.diffusion import sampler
from lumiere_jax.inference.generate import Generator, Text
from lumiere_jax.models.stunet import STUNet
from lumiere_jax.weights import scheduler
from lumiere_jax.weights.diffusers_unet import unet_config
from tests.fixtures import make_if_fixtures as maker
from tests.models import if_nets


def run(monkeypatch):
  """The image after each step of our program: (steps, h, w, 3)."""
  cfg = unet_config(maker.BASE)
  params = if_nets.params(cfg)
  diffusion, settings = scheduler.process(maker.SCHEDULER)
  settings = dataclasses.replace(
    settings, steps=maker.STEPS, guidance=maker.GUIDANCE
  )
  seen = []

  def apply(params, x, t, text, mask):
    jax.debug.callback(lambda a: seen.append(np.array(a)), x[0], ordered=True)
    return STUNet(cfg).apply({"params": params}, x, t, text, mask)

  generator = Generator(
    apply, (maker.HEIGHT, maker.WIDTH, 3), diffusion, settings
  )
  visited = sampler.sampling_timesteps(
    build.make_schedule(diffusion.schedule), settings
  )
  rows = jnp.stack([maker.noise(i) for i in range(maker.STEPS + 1)])

  def scripted(keys, t, shape):
    # Number of the step, from 1; 0 for the first noise, of no timestep.
    return rows[jnp.argmax(jnp.append(False, t == visited))]

  monkeypatch.setattr(sampler, "step_noise", scripted)
  mask = jnp.ones((1, maker.TOKENS), bool)
  texts = [
    Text(jnp.asarray(maker.text(n)), mask) for n in ("positive", "negative")
  ]
  with jax.default_matmul_precision("highest"):
    final = generator(params, *texts, sampler.sample_keys(0, [0]))
  jax.effects_barrier()
  return np.stack([*seen[1:], final[0]])


def assert_close(ours, reference):
  for step, (a, b) in enumerate(zip(ours, reference, strict=True)):
    error = np.abs(a - b).max() / np.abs(b).max()
    assert error < 1e-3, f"after step {step}: {error}"


def test_trajectory_is_that_of_the_pipeline(monkeypatch):
  with np.load(maker.PATH) as stored:
    assert_close(run(monkeypatch), stored["images"])


@pytest.mark.filterwarnings("ignore")  # diffusers' own
def test_stored_trajectory_is_the_pipelines_live():
  pytest.importorskip("torch")
  pytest.importorskip("diffusers")
  with np.load(maker.PATH) as stored:
    assert_close(maker.reference(), stored["images"])
