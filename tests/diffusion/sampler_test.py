# SPDX-License-Identifier: Apache-2.0
"""Samplers against data whose perfect denoiser is known, and their keys.

For x0 ~ N(mu, s^2) the mean of x0 given x_t is
mu + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha mu).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import diffusion
from lumiere_jax.config import DiffusionConfig, SamplerConfig, ScheduleConfig
from lumiere_jax.diffusion import sampler
from lumiere_jax.diffusion.prediction import Prediction, eps_of
from lumiere_jax.diffusion.schedule import expand
from lumiere_jax.errors import UserError

MU, S = 0.4, 0.25
SHAPE = (4, 8, 8, 3)
SCHEDULE = diffusion.make_schedule(ScheduleConfig())


def gaussian(schedule=SCHEDULE, fraction=None):
  """The perfect denoiser of N(MU, S^2)."""

  def denoise(x, t):
    alpha, sigma = expand(schedule.alpha(t), x), expand(schedule.sigma(t), x)
    gain = alpha * S**2 / (alpha**2 * S**2 + sigma**2)
    x0 = MU + gain * (x - alpha * MU)
    variance = None if fraction is None else jnp.full_like(x, fraction)
    return Prediction(x0, eps_of(x0, x, t, schedule), variance)

  return denoise


# Compiled once for each number of samples.
initial = jax.jit(lambda keys: diffusion.initial_noise(keys, SHAPE))


def run(cfg, keys, variance="fixed_small", denoise=None, **options):
  denoise = denoise or gaussian()
  x = initial(keys)
  return jax.jit(
    lambda x, keys: diffusion.sample(
      denoise, x, keys, SCHEDULE, cfg, variance, **options
    )
  )(x, keys)


@pytest.fixture
def stored_noise(monkeypatch):
  """Noise from a table: the generator takes seconds to compile, each time."""
  table = np.random.default_rng(0).standard_normal((1000, *SHAPE), np.float32)
  table = jnp.asarray(table)
  monkeypatch.setattr(
    sampler,
    "step_noise",
    lambda keys, t, shape: jnp.broadcast_to(table[t], keys.shape + shape),
  )


def config(name, steps, **options):
  return SamplerConfig(name=name, steps=steps, **options)


@pytest.mark.parametrize(
  ("cfg", "variance"),
  [
    (config("ddpm", 1000), "fixed_small"),
    (config("ddpm", 500, spacing="linspace"), "learned"),
    (config("ddim", 200), "fixed_small"),
    (config("ddim", 500, eta=0.5, spacing="leading"), "fixed_small"),
    (config("dpmpp_2m", 30), "fixed_small"),
    (config("dpmpp_2m", 30, spacing="linspace"), "fixed_small"),
  ],
)
def test_samples_have_the_mean_and_variance_of_the_data(cfg, variance):
  keys = diffusion.sample_keys(0, range(32))
  x = np.asarray(run(cfg, keys, variance, gaussian(fraction=0.5)), np.float64)
  # 24,576 values: standard error 0.0016 of the mean, 0.5% of the deviation.
  assert abs(x.mean() - MU) < 0.008
  assert abs(x.std() / S - 1) < 0.025
  # and nothing in common between pixels or samples.
  assert abs(np.corrcoef(x[0].ravel(), x[1].ravel())[0, 1]) < 0.15


def test_deterministic_samplers_converge_to_the_exact_flow():
  # For a Gaussian the flow is affine: it keeps the standardised value.
  keys = diffusion.sample_keys(0, range(2))
  x = initial(keys)
  bar = SCHEDULE.alphas_cumprod[-1]
  exact = MU + S * (x - np.sqrt(bar) * MU) / np.sqrt(bar * S**2 + 1 - bar)
  error = {
    (name, steps): float(np.abs(run(config(name, steps), keys) - exact).max())
    for name in ("ddim", "dpmpp_2m")
    for steps in (25, 100)
  }
  assert error["ddim", 100] < 0.4 * error["ddim", 25]
  assert error["dpmpp_2m", 100] < 0.15 * error["dpmpp_2m", 25]
  assert error["dpmpp_2m", 25] < 0.3 * error["ddim", 25]
  assert error["dpmpp_2m", 100] < 0.01


def test_ddim_with_eta_1_is_ddpm(stored_noise):
  keys = diffusion.sample_keys(3, range(2))
  ddim = run(config("ddim", 20, eta=1.0), keys)
  ddpm = run(config("ddpm", 20), keys)
  np.testing.assert_allclose(ddim, ddpm, atol=2e-5)
  deterministic = run(config("ddim", 20), keys)
  assert np.abs(ddim - deterministic).max() > 0.1


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_ddim_with_eta_1_has_the_coefficients_of_ddpm(spacing):
  ddpm, ddim = (
    sampler.coefficients(SCHEDULE, cfg, SCHEDULE.timesteps(spacing, 17))
    for cfg in (config("ddpm", 17), config("ddim", 17, eta=1.0))
  )
  # eps written as (x - alpha x0) / sigma
  bar = SCHEDULE.alpha_bar(SCHEDULE.timesteps(spacing, 17))
  per_x = ddim.eps / np.sqrt(1 - bar)
  np.testing.assert_allclose(per_x, ddpm.x, atol=1e-12)
  np.testing.assert_allclose(
    ddim.x0 - per_x * np.sqrt(bar), ddpm.x0, atol=1e-12
  )
  np.testing.assert_allclose(ddim.low, ddpm.low, atol=1e-9)
  np.testing.assert_array_equal(ddim.noisy, ddpm.noisy)


def test_learned_variance_interpolates_between_the_fixed_ones(stored_noise):
  keys = diffusion.sample_keys(0, range(2))
  x = initial(keys)
  cfg = config("ddpm", 10)
  learned = jax.jit(
    lambda fraction: diffusion.sample(
      gaussian(fraction=fraction), x, keys, SCHEDULE, cfg, "learned"
    )
  )
  for fraction, fixed in ((0.0, "fixed_small"), (1.0, "fixed_large")):
    np.testing.assert_allclose(
      learned(fraction), run(cfg, keys, fixed), atol=1e-6
    )
  spread = [float(learned(fraction).std()) for fraction in (0.0, 0.5, 1.0)]
  assert spread[0] < spread[1] < spread[2]
  with pytest.raises(ValueError, match="needs a network that predicts it"):
    run(cfg, keys, "learned")


@pytest.mark.parametrize("name", ["ddpm", "dpmpp_2m"])
def test_a_second_call_does_not_recompile(name, stored_noise):
  traces = []

  def denoise(x, t):
    traces.append(t.shape)
    return gaussian()(x, t)

  @jax.jit
  def go(x, keys):
    return diffusion.sample(
      denoise, x, keys, SCHEDULE, config(name, 12, eta=1.0), "fixed_small"
    )

  results = []
  for seed in (0, 1):
    keys = diffusion.sample_keys(seed, range(2))
    results.append(go(initial(keys), keys))
    if seed == 0:
      after_first = len(traces)
  assert len(traces) == after_first and set(traces) == {(2,)}
  assert go._cache_size() == 1
  assert np.any(results[0] != results[1])


@pytest.mark.parametrize("name", ["ddpm", "dpmpp_2m"])
def test_a_sample_of_a_batch_is_the_sample_made_alone(name):
  cfg = config(name, 8, eta=1.0)
  batch = run(cfg, diffusion.sample_keys(5, [4, 9, 2]))
  alone = run(cfg, diffusion.sample_keys(5, [9]))
  np.testing.assert_allclose(batch[1:2], alone, atol=1e-6)
  assert np.abs(batch[0] - batch[1]).max() > 0.1


def test_noise_is_a_function_of_key_and_timestep():
  keys = diffusion.sample_keys(0, [0, 1, 7])
  first = initial(keys)
  noises = [first] + [sampler.step_noise(keys, t, SHAPE) for t in (0, 1, 999)]
  again = diffusion.initial_noise(diffusion.sample_keys(0, [7]), SHAPE)
  np.testing.assert_array_equal(first[2:], again)
  flat = np.stack(noises).reshape(12, -1)
  correlation = np.corrcoef(flat) - np.eye(12)
  assert np.abs(correlation).max() < 0.2
  assert np.any(
    diffusion.initial_noise(diffusion.sample_keys(1, [7]), SHAPE) != again
  )


def test_the_last_step_returns_x0():
  for name in ("ddpm", "ddim", "dpmpp_2m"):
    for spacing in ("leading", "trailing", "linspace"):
      cfg = config(name, 9, eta=1.0, spacing=spacing)
      timesteps = diffusion.sampling_timesteps(SCHEDULE, cfg)
      table = sampler.coefficients(SCHEDULE, cfg, timesteps)
      last = [column[-1] for column in table]
      assert last[:4] == [0, 1, 0, 0] and last[-1] == 0
      assert all(np.all(np.isfinite(column)) for column in table)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_a_tail_of_the_timesteps_continues_a_noised_clip(name):
  cfg = config(name, 20)
  timesteps = diffusion.sampling_timesteps(SCHEDULE, cfg)
  keys = diffusion.sample_keys(0, range(2))
  whole = run(cfg, keys)
  np.testing.assert_array_equal(whole, run(cfg, keys, timesteps=timesteps))
  start = jnp.full((2, *SHAPE), 0.9)
  nothing = diffusion.sample(
    gaussian(), start, keys, SCHEDULE, cfg, "fixed_small", timesteps[20:]
  )
  np.testing.assert_array_equal(nothing, start)
  # The later one starts, the closer one stays to the clip one started from.
  distances = []
  for index in (19, 12, 0):
    t = jnp.full((2,), timesteps[index], jnp.float32)
    noise = initial(keys)
    x = diffusion.sample(
      gaussian(),
      SCHEDULE.add_noise(start, noise, t),
      keys,
      SCHEDULE,
      cfg,
      "fixed_small",
      timesteps[index:],
    )
    distances.append(float(np.abs(np.mean(x - start))))
  assert distances[0] < 0.1 < distances[1] < distances[2]
  np.testing.assert_allclose(distances[2], 0.9 - MU, atol=0.05)


def test_steps_of_a_run_from_the_middle_draw_the_noise_of_the_whole_run():
  cfg = config("ddpm", 10)
  timesteps = diffusion.sampling_timesteps(SCHEDULE, cfg)
  keys = diffusion.sample_keys(0, range(2))
  seen = []

  def denoise(x, t):
    jax.debug.callback(lambda a: seen.append(np.array(a)), x, ordered=True)
    return gaussian()(x, t)

  whole = run(cfg, keys, denoise=denoise)
  jax.effects_barrier()
  tail = diffusion.sample(
    gaussian(),
    jnp.asarray(seen[6]),
    keys,
    SCHEDULE,
    cfg,
    "fixed_small",
    timesteps[6:],
  )
  np.testing.assert_allclose(tail, whole, atol=1e-6)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_shift_moves_the_steps_to_high_noise(name, spacing):
  plain = diffusion.sampling_timesteps(
    SCHEDULE, config(name, 12, spacing=spacing)
  )
  moved = diffusion.sampling_timesteps(
    SCHEDULE, config(name, 12, spacing=spacing, timestep_shift=3.0)
  )
  want = np.round(SCHEDULE.shifted(plain, 3.0))
  np.testing.assert_array_equal(moved, want)
  assert np.all(moved >= plain) and moved[6] > plain[6] + 100


def test_a_shift_that_merges_steps_is_refused():
  shifted = np.round(SCHEDULE.shifted(np.arange(1000), 4.0))
  left = len(np.unique(shifted))
  assert left < 1000
  with pytest.raises(UserError, match=f"fall on only {left} timesteps"):
    diffusion.sampling_timesteps(
      SCHEDULE, config("ddim", 1000, timestep_shift=4.0)
    )
  every = diffusion.sampling_timesteps(SCHEDULE, config("ddim", 1000))
  np.testing.assert_array_equal(every, np.arange(1000)[::-1])


@pytest.mark.parametrize("bad", [[3, 7], [5, 5], [1000], [4, -1]])
def test_timesteps_that_do_not_descend_are_refused(bad):
  keys = diffusion.sample_keys(0, range(2))
  with pytest.raises(ValueError, match="must descend"):
    run(config("ddim", 2), keys, timesteps=np.array(bad))


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpmpp_2m"])
def test_one_program_runs_any_range_of_steps(name):
  cfg = config(name, 6)
  keys = diffusion.sample_keys(0, range(2))

  @jax.jit
  def advance(carry, start, stop):
    step = diffusion.make_step(gaussian(), keys, SCHEDULE, cfg, "fixed_small")
    return jax.lax.fori_loop(start, stop, step, carry)

  noise = initial(keys)
  start = diffusion.Carry.start(noise, cfg)
  assert (start.before is None) == (name != "dpmpp_2m")
  carry = start
  for i in range(6):
    carry = advance(carry, i, i + 1)
  np.testing.assert_array_equal(carry.x, advance(start, 0, 6).x)
  np.testing.assert_allclose(carry.x, run(cfg, keys), atol=1e-6)
  assert advance._cache_size() == 1


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_zero_terminal_snr_and_half_precision_outputs_stay_finite(name):
  cfg = DiffusionConfig(schedule=ScheduleConfig(zero_terminal_snr=True))
  schedule = diffusion.make_schedule(cfg.schedule)
  exact = gaussian(schedule)

  def output(x, t):
    p = exact(x, t)
    v = diffusion.target(p.x0, p.eps, t, schedule, "v")
    return v.astype(jnp.bfloat16)

  denoise = diffusion.denoiser(output, schedule, cfg)
  keys = diffusion.sample_keys(0, range(8))
  x = diffusion.sample(
    denoise,
    initial(keys),
    keys,
    schedule,
    config(name, 40),
    "fixed_small",
  )
  assert x.dtype == jnp.float32
  assert abs(float(x.mean()) - MU) < 0.02
  assert abs(float(x.std()) / S - 1) < 0.15
