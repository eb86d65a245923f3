# SPDX-License-Identifier: Apache-2.0
"""The samplers do what diffusers' schedulers do with the same outputs."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import diffusion
from lumiere_jax.config import DiffusionConfig, SamplerConfig, ScheduleConfig
from lumiere_jax.diffusion import sampler
from tests import scripts

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"


maker = scripts.load("tests/fixtures/make_scheduler_fixtures.py")
by_name = pytest.mark.parametrize("case", maker.CASES, ids=lambda c: c.name)


def run(case, monkeypatch):
  """The clip after each step of our sampler, with the script of the case."""
  x, outputs, noise = (jnp.asarray(a) for a in maker.script(case))
  cfg = DiffusionConfig(
    schedule=ScheduleConfig(
      name=case.schedule, zero_terminal_snr=case.zero_terminal_snr
    ),
    prediction=case.prediction,
    variance=case.variance,
  )
  sampler_cfg = SamplerConfig(
    name=case.sampler,
    steps=case.steps,
    eta=case.eta,
    spacing=case.spacing,
    threshold=case.threshold,
  )
  schedule = diffusion.make_schedule(cfg.schedule)
  timesteps = jnp.asarray(diffusion.sampling_timesteps(schedule, sampler_cfg))
  assert len(timesteps) == case.steps

  def scripted(rows, t):
    return rows[jnp.argmax(timesteps == t)]

  seen = []

  def output(x, t):
    jax.debug.callback(lambda a: seen.append(np.array(a)), x, ordered=True)
    return scripted(outputs, t[0])

  monkeypatch.setattr(
    sampler, "step_noise", lambda keys, t, shape: scripted(noise, t)
  )
  denoise = diffusion.thresholded(
    diffusion.denoiser(output, schedule, cfg), schedule, sampler_cfg
  )
  keys = diffusion.sample_keys(0, range(len(x)))
  final = diffusion.sample(
    denoise, x, keys, schedule, sampler_cfg, case.variance
  )
  jax.effects_barrier()
  return np.stack([*seen[1:], final])


def assert_close(ours, reference):
  # Relative to each step's largest value: diffusers' tables are products of
  # up to 1000 float32 numbers.
  for k, (a, b) in enumerate(zip(ours, reference, strict=True)):
    scale = np.abs(b).max()
    np.testing.assert_allclose(
      a, b, rtol=0, atol=1e-4 * scale, err_msg=f"after step {k}"
    )


@by_name
def test_samplers_follow_stored_diffusers(case, monkeypatch):
  with np.load(FIXTURES / "schedulers.npz") as stored:
    assert_close(run(case, monkeypatch), stored[case.name])


@pytest.mark.filterwarnings("ignore")
def test_samplers_follow_live_diffusers(monkeypatch):
  pytest.importorskip("torch")
  pytest.importorskip("diffusers")
  with np.load(FIXTURES / "schedulers.npz") as stored:
    for case in maker.CASES:
      live = maker.reference(case)
      np.testing.assert_allclose(live, stored[case.name], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_schedule_and_timesteps_follow_live_diffusers(shape, rescaled):
  pytest.importorskip("torch")
  diffusers = pytest.importorskip("diffusers")
  schedule = diffusion.make_schedule(
    ScheduleConfig(name=shape, zero_terminal_snr=rescaled)
  )
  for spacing in ("leading", "trailing", "linspace"):
    theirs = diffusers.DDPMScheduler(
      beta_schedule=maker.SCHEDULES[shape],
      timestep_spacing=spacing,
      rescale_betas_zero_snr=rescaled,
    )
    np.testing.assert_allclose(
      schedule.alphas_cumprod,
      theirs.alphas_cumprod.numpy(),
      rtol=2e-4,
      atol=1e-7,
    )
    for steps in (1, 2, 12, 27, 48, 50, 250, 1000):
      theirs.set_timesteps(steps)
      np.testing.assert_array_equal(
        schedule.timesteps(spacing, steps), theirs.timesteps.numpy()
      )
