# SPDX-License-Identifier: Apache-2.0
"""Schedules: what holds for each of them, and the papers' formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import ScheduleConfig
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.errors import UserError

CONFIGS = [
  ScheduleConfig(),
  ScheduleConfig(name="linear"),
  ScheduleConfig(logsnr_shift=-1.4, num_train_timesteps=100),
  ScheduleConfig(name="linear", zero_terminal_snr=True),
  ScheduleConfig(zero_terminal_snr=True, logsnr_shift=1.0),
]


@pytest.mark.parametrize("cfg", CONFIGS)
def test_signal_falls_and_variance_is_kept(cfg):
  schedule = make_schedule(cfg)
  t = jnp.arange(cfg.num_train_timesteps, dtype=jnp.float32)
  alpha, sigma = schedule.alpha(t), schedule.sigma(t)
  assert alpha.dtype == sigma.dtype == jnp.float32
  np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, atol=2e-7)
  assert np.all(np.diff(schedule.alphas_cumprod) < 0)
  assert np.all(sigma > 0)
  usual = slice(0, -1) if cfg.zero_terminal_snr else slice(None)
  ratio = np.asarray(alpha / sigma, np.float64)[usual]
  np.testing.assert_allclose(
    schedule.log_snr(t)[usual], 2 * np.log(ratio), atol=2e-4
  )


def test_cosine_follows_its_formula_below_the_cap():
  t = np.array([0, 10, 400, 900])
  curve = lambda u: np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
  expected = curve((t + 1) / 1000) / curve(0)
  bar = make_schedule(ScheduleConfig()).alphas_cumprod
  np.testing.assert_allclose(bar[t], expected, rtol=1e-10)


def test_shift_moves_log_snr_by_the_same_everywhere():
  shift = 2 * np.log(64 / 256)
  t = jnp.arange(1000.0)
  plain = make_schedule(ScheduleConfig())
  shifted = make_schedule(ScheduleConfig(logsnr_shift=shift))
  np.testing.assert_allclose(
    shifted.log_snr(t) - plain.log_snr(t), shift, rtol=1e-5
  )


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_zero_terminal_snr_ends_in_pure_noise(name):
  plain = make_schedule(ScheduleConfig(name=name))
  schedule = make_schedule(ScheduleConfig(name=name, zero_terminal_snr=True))
  assert plain.alphas_cumprod[-1] > 0 == schedule.alphas_cumprod[-1]
  np.testing.assert_allclose(
    schedule.alphas_cumprod[0], plain.alphas_cumprod[0], rtol=1e-12
  )
  eps = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 3))
  t = jnp.full((2,), 999.0)
  noisy = schedule.add_noise(100 * jnp.ones_like(eps), eps, t)
  np.testing.assert_array_equal(noisy, eps)
  assert schedule.log_snr(t)[0] == -jnp.inf


def test_add_noise_mixes_per_example_in_float32():
  schedule = make_schedule(ScheduleConfig())
  x0 = jnp.full((2, 2, 2, 1), 0.5, jnp.bfloat16)
  eps = jnp.ones((2, 2, 2, 1), jnp.bfloat16)
  t = jnp.array([3.0, 700.0])
  noisy = schedule.add_noise(x0, eps, t)
  assert noisy.dtype == jnp.float32
  expected = 0.5 * schedule.alpha(t) + schedule.sigma(t)
  np.testing.assert_allclose(noisy[:, 1, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("cfg", CONFIGS)
def test_posterior_agrees_with_bayes(cfg):
  # q(x_s | x_t, x0) is proportional to q(x_t | x_s) q(x_s | x0).
  schedule = make_schedule(cfg)
  t = np.array([99, 70, 7])
  s = np.array([70, 7, 0])
  bar_t, bar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
  step = bar_t / bar_s
  precision = step / (1 - step) + 1 / (1 - bar_s)
  posterior = schedule.posterior(t, s)
  np.testing.assert_allclose(posterior.variance, 1 / precision)
  np.testing.assert_allclose(
    posterior.x0, np.sqrt(bar_s) / (1 - bar_s) / precision
  )
  np.testing.assert_allclose(
    posterior.x, np.sqrt(step) / (1 - step) / precision
  )
  assert np.all(posterior.variance < posterior.beta)


def test_posterior_of_the_clean_clip_is_the_clean_clip():
  posterior = make_schedule(ScheduleConfig()).posterior(
    np.array([40]), np.array([-1])
  )
  np.testing.assert_array_equal(
    [posterior.x0[0], posterior.x[0], posterior.variance[0]], [1, 0, 0]
  )


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_timesteps_descend_for_any_number_of_steps(spacing):
  schedule = make_schedule(ScheduleConfig())
  for steps in range(1, 1001):
    timesteps = schedule.timesteps(spacing, steps)
    assert len(timesteps) == steps and np.all(np.diff(timesteps) < 0)
    assert timesteps[-1] >= 0 and timesteps[0] <= 999
  assert schedule.timesteps("trailing", 12)[0] == 999
  assert schedule.timesteps("leading", 12)[-1] == 0
  assert list(schedule.timesteps("linspace", 4)) == [999, 666, 333, 0]


@pytest.mark.parametrize("cfg", CONFIGS)
def test_shifted_timesteps_have_a_multiple_of_the_noise(cfg):
  schedule = make_schedule(cfg)
  t = schedule.num_timesteps * np.arange(1, 8) // 20
  bar = schedule.alpha_bar(t)
  ratio = np.sqrt((1 - bar) / bar)
  moved = schedule.shifted(t, 1.5)
  assert np.all(moved > t)
  bar = np.interp(
    moved, np.arange(len(schedule.alphas_cumprod)), schedule.alphas_cumprod
  )
  np.testing.assert_allclose(np.sqrt((1 - bar) / bar), 1.5 * ratio, rtol=3e-3)
  np.testing.assert_allclose(schedule.shifted(moved, 1 / 1.5), t, rtol=1e-9)
  np.testing.assert_allclose(schedule.shifted(t, 1.0), t, rtol=1e-9)
  last = schedule.num_timesteps - 1
  np.testing.assert_allclose(schedule.shifted(np.array([last]), 3.0), last)


def test_timesteps_refuse_what_cannot_be():
  schedule = make_schedule(ScheduleConfig(num_train_timesteps=10))
  with pytest.raises(UserError, match=r"steps=11 must be in 1\.\.10"):
    schedule.timesteps("trailing", 11)
  with pytest.raises(UserError, match="did you mean 'trailing'"):
    schedule.timesteps("trailin", 5)


def test_equal_configs_make_equal_static_arguments():
  a, b = make_schedule(ScheduleConfig()), make_schedule(ScheduleConfig())
  other = make_schedule(ScheduleConfig(name="linear"))
  assert a == b and hash(a) == hash(b) and a != other
  traces = []

  def alpha(t, schedule):
    traces.append(schedule)
    return schedule.alpha(t)

  jitted = jax.jit(alpha, static_argnames="schedule")
  for schedule in (a, b, other, a):
    jitted(jnp.ones(2), schedule=schedule)
  assert len(traces) == 2
