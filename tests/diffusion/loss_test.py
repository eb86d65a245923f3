# SPDX-License-Identifier: Apache-2.0
"""The loss against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from lumiere_jax.config import DiffusionConfig, ScheduleConfig
from lumiere_jax.diffusion import loss as loss_lib
from lumiere_jax.diffusion.loss import (
  diffusion_loss,
  loss_weights,
  timestep_cdf,
)
from lumiere_jax.diffusion.prediction import (
  Prediction,
  eps_of,
  from_output,
  target,
)
from lumiere_jax.diffusion.schedule import make_schedule

SCHEDULE = make_schedule(ScheduleConfig())
KEY = jax.random.key(7)
KEYS = jax.random.split(KEY, 32)
X0 = jnp.clip(jax.random.normal(jax.random.key(0), (32, 4, 4, 3)) / 2, -1, 1)


def perfect(kind):
  """A network that knows X0."""

  def output(x_t, t):
    return target(X0, eps_of(X0, x_t, t, SCHEDULE), t, SCHEDULE, kind)

  return output


@pytest.mark.parametrize("weighting", ["uniform", "min_snr", "v"])
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_a_perfect_model_has_no_loss(kind, weighting):
  cfg = DiffusionConfig(prediction=kind, weighting=weighting)
  loss, aux = diffusion_loss(perfect(kind), X0, KEYS, SCHEDULE, cfg)
  assert loss.shape == aux["t"].shape == (32,) and loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, 0.0, atol=1e-7)
  worse, _ = diffusion_loss(
    lambda x, t: perfect(kind)(x, t) + 0.5, X0, KEYS, SCHEDULE, cfg
  )
  expected = 0.25 * loss_weights(SCHEDULE, cfg)[aux["t"].astype(int)]
  np.testing.assert_allclose(worse, expected, rtol=1e-3)


def test_min_snr_weighs_the_same_error_alike_in_every_kind():
  # arXiv 2303.09556: min(SNR, gamma) on x0. An error d in x0 at given x_t is
  # one of alpha / sigma d in eps and of d / sigma in v.
  bar = SCHEDULE.alphas_cumprod
  snr = bar / (1 - bar)
  weights = {
    kind: loss_weights(
      SCHEDULE,
      DiffusionConfig(prediction=kind, weighting="min_snr", min_snr_gamma=5.0),
    )
    for kind in ("x0", "eps", "v")
  }
  np.testing.assert_allclose(weights["x0"], np.minimum(snr, 5), rtol=1e-9)
  np.testing.assert_allclose(weights["eps"] * snr, weights["x0"], rtol=1e-9)
  np.testing.assert_allclose(weights["v"] * (snr + 1), weights["x0"], rtol=1e-9)
  assert 0 < np.argmax(weights["v"]) < 999 and np.all(weights["eps"] < 1 + 1e-9)


@pytest.mark.parametrize("kind", ["x0", "eps"])
def test_weighting_v_is_the_uniform_loss_of_v(kind):
  """Of a network that says the same of x0, whatever it predicts."""

  def clean(x_t, t):
    return X0 + 0.1 * jnp.sin(3 * x_t)

  def output(kind):
    def network(x_t, t):
      x0 = clean(x_t, t)
      return target(x0, eps_of(x0, x_t, t, SCHEDULE), t, SCHEDULE, kind)

    return network

  v = DiffusionConfig(prediction="v")
  expected, aux = diffusion_loss(output("v"), X0, KEYS, SCHEDULE, v)
  cfg = DiffusionConfig(prediction=kind, weighting="v", weighting_cap=1e9)
  loss, same = diffusion_loss(output(kind), X0, KEYS, SCHEDULE, cfg)
  np.testing.assert_array_equal(same["t"], aux["t"])
  # Within the rounding of eps near pure noise, where alpha^2 is 2e-6.
  np.testing.assert_allclose(loss, expected, rtol=1e-3)


@pytest.mark.parametrize("weighting", ["uniform", "min_snr", "v"])
@pytest.mark.parametrize("kind", ["x0", "v", "eps"])
def test_error_of_x0_is_that_of_the_clip_which_the_output_amounts_to(
  kind, weighting
):
  cfg = DiffusionConfig(prediction=kind, weighting=weighting)
  seen = {}

  def output(x_t, t):
    seen["x0"] = from_output(jnp.sin(3 * x_t), x_t, t, SCHEDULE, kind, False).x0
    return jnp.sin(3 * x_t)

  _, aux = diffusion_loss(output, X0, KEYS, SCHEDULE, cfg)
  expected = np.mean((seen["x0"] - X0) ** 2, axis=(1, 2, 3))
  np.testing.assert_allclose(aux["x0_mse"], expected, rtol=1e-3)


def test_cap_of_weighting_v_is_that_of_the_error_of_x0():
  bar = SCHEDULE.alphas_cumprod

  def weights(kind, cap):
    cfg = DiffusionConfig(prediction=kind, weighting="v", weighting_cap=cap)
    return loss_weights(SCHEDULE, cfg)

  capped = 1 / (1 - bar) > 10
  assert 0 < capped.sum() < 500
  np.testing.assert_array_equal(weights("x0", 10.0)[capped], 10)
  np.testing.assert_allclose(
    weights("x0", 10.0)[~capped], 1 / (1 - bar[~capped])
  )
  for kind, factor in (("v", 1 - bar), ("eps", (1 - bar) / bar)):
    np.testing.assert_allclose(
      weights(kind, 10.0), weights("x0", 10.0) * factor, rtol=1e-9
    )
  noise = make_schedule(ScheduleConfig(zero_terminal_snr=True))
  for kind in ("x0", "v"):
    cfg = DiffusionConfig(prediction=kind, weighting="v")
    assert loss_weights(noise, cfg)[-1] == 1


def zero(x_t, t):
  return jnp.zeros_like(x_t)


def test_timesteps_are_uniform_and_noise_is_standard():
  x0 = jnp.zeros((20_000, 1, 1, 1))
  cfg = DiffusionConfig(prediction="eps")
  keys = jax.random.split(KEY, len(x0))
  loss, aux = diffusion_loss(zero, x0, keys, SCHEDULE, cfg)
  counts = np.histogram(aux["t"], bins=10, range=(0, 1000))[0]
  assert aux["t"].min() >= 0 and aux["t"].max() <= 999
  np.testing.assert_allclose(counts, 2000, rtol=0.1)
  np.testing.assert_allclose(loss.mean(), 1.0, atol=0.04)
  assert abs(np.corrcoef(aux["t"], loss)[0, 1]) < 0.03


@pytest.mark.parametrize("shift", [0.5, 4.0])
def test_shifted_draws_are_uniform_once_shifted_back(shift):
  x0 = jnp.zeros((20_000, 1, 1, 1))
  cfg = DiffusionConfig(prediction="eps", timestep_shift=shift)
  keys = jax.random.split(KEY, len(x0))
  _, aux = diffusion_loss(zero, x0, keys, SCHEDULE, cfg)
  t = np.asarray(aux["t"], np.float64)
  assert (np.median(t) > 600) == (shift > 1)
  # Within its bin of one timestep a draw may lie anywhere.
  t += np.random.default_rng(0).uniform(-0.5, 0.5, len(t))
  back = SCHEDULE.shifted(t, 1 / shift)
  counts = np.histogram(back, bins=10, range=(0, 1000))[0]
  np.testing.assert_allclose(counts, 2000, rtol=0.1)


def logit_normal(**fields):
  return DiffusionConfig(
    prediction="eps", timestep_distribution="logit_normal", **fields
  )


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_logit_normal_shares_are_those_of_the_normal_distribution(shift):
  mean, std = 0.3, 0.7
  cfg = logit_normal(timestep_mean=mean, timestep_std=std, timestep_shift=shift)
  # The cosine's closed form at the ends of the timesteps, t + 0.5.
  curve = lambda u: np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
  bar = curve((np.arange(999) + 1.5) / 1000) / curve(0)
  ratio = 0.5 * np.log((1 - bar) / bar)
  expected = stats.norm.cdf(ratio, mean + np.log(shift), std)
  cumulative = timestep_cdf(SCHEDULE, cfg)
  np.testing.assert_allclose(cumulative[:-1], expected, atol=1e-4)
  assert cumulative[-1] == 1 and np.all(np.diff(cumulative) >= 0)


def test_logit_normal_draws_are_normal_in_log_noise_ratio():
  x0 = jnp.zeros((20_000, 1, 1, 1))
  keys = jax.random.split(KEY, len(x0))
  _, aux = diffusion_loss(zero, x0, keys, SCHEDULE, logit_normal())
  ratio = np.log(SCHEDULE.noise_ratio(np.asarray(aux["t"], np.float64)))
  np.testing.assert_allclose(ratio.mean(), 0.8, atol=0.02)
  np.testing.assert_allclose(ratio.std(), 0.8, atol=0.02)
  # JiT's time of flow matching is sigmoid(Normal(-0.8, 0.8^2)).
  time = 1 / (1 + np.exp(ratio))
  rng = np.random.default_rng(0)
  jit = 1 / (1 + np.exp(-rng.normal(-0.8, 0.8, 20_000)))
  shares = [np.histogram(x, 10, (0, 1))[0] / 20_000 for x in (time, jit)]
  np.testing.assert_allclose(*shares, atol=0.015)


def test_logit_normal_reaches_pure_noise():
  noise = make_schedule(ScheduleConfig(zero_terminal_snr=True))
  cfg = DiffusionConfig(timestep_distribution="logit_normal", timestep_mean=9.0)
  cumulative = timestep_cdf(noise, cfg)
  assert np.all(np.isfinite(cumulative)) and cumulative[-2] < 0.5


def test_an_example_draws_by_its_own_key_whatever_the_batch():
  cfg = DiffusionConfig(prediction="eps")
  loss, aux = diffusion_loss(zero, X0, KEYS, SCHEDULE, cfg)
  part, part_aux = diffusion_loss(zero, X0[8:16], KEYS[8:16], SCHEDULE, cfg)
  np.testing.assert_allclose(part, loss[8:16], rtol=1e-5)
  np.testing.assert_array_equal(part_aux["t"], aux["t"][8:16])
  other, _ = diffusion_loss(zero, X0, KEYS[::-1], SCHEDULE, cfg)
  assert np.all(other != loss)


def test_half_precision_outputs_are_scored_in_float32():
  cfg = DiffusionConfig(prediction="x0")
  output = (X0 + 1e-3).astype(jnp.bfloat16)
  loss, _ = diffusion_loss(lambda x, t: output, X0, KEYS, SCHEDULE, cfg)
  expected = np.mean(
    (np.asarray(output, np.float64) - np.asarray(X0, np.float64)) ** 2,
    (1, 2, 3),
  )
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def bound(t, fraction, offset=0.0):
  """The bound of a model whose x0 is `offset` beside the truth, in bits."""
  t = jnp.full((len(X0),), t, jnp.float32)
  x_t = SCHEDULE.add_noise(X0, jax.random.normal(KEY, X0.shape), t)
  prediction = Prediction(
    X0 + offset, jnp.zeros_like(X0), jnp.full_like(X0, fraction)
  )
  return loss_lib.variational_bound(prediction, X0, x_t, t, SCHEDULE)


@pytest.mark.parametrize("t", [1, 20, 500, 999])
def test_bound_is_zero_where_the_step_is_the_posterior(t):
  np.testing.assert_allclose(bound(t, 0.0), 0.0, atol=1e-5)


@pytest.mark.parametrize("t", [1, 20, 500])
def test_bound_is_the_divergence_of_two_gaussians(t):
  fraction, offset = 0.4, 0.3
  p = SCHEDULE.posterior(np.array([t]), np.array([t - 1]))
  variance = p.variance ** (1 - fraction) * p.beta**fraction
  squared = (p.x0 * offset) ** 2
  ratio = p.variance / variance
  nats = 0.5 * (ratio - 1 - np.log(ratio) + squared / variance)
  expected = np.full(len(X0), nats / np.log(2))
  np.testing.assert_allclose(bound(t, fraction, offset), expected, rtol=1e-3)


def test_bound_at_the_last_step_is_a_likelihood_of_uint8_levels():
  levels = jnp.arange(256) / 127.5 - 1
  for mean, log_variance in ((0.3, -4.0), (-1.2, -1.0), (0.9, -9.0)):
    p = jnp.exp(
      loss_lib.uint8_log_likelihood(
        levels, jnp.full(256, mean), jnp.full(256, log_variance)
      )
    )
    np.testing.assert_allclose(p.sum(), 1.0, atol=1e-4)
    assert abs(np.argmax(p) - np.argmin(abs(levels - mean))) <= 1
  # The likelihood of the truth beats that of a shifted mean.
  assert np.all(bound(0, 0.0) < bound(0, 0.0, offset=0.1))


def test_bound_trains_the_variance_only():
  cfg = DiffusionConfig(prediction="v", variance="learned", vlb_weight=1e-3)

  def total(mean, variance, weight):
    scaled = DiffusionConfig(
      prediction="v", variance="learned", vlb_weight=weight
    )
    output = jnp.concatenate([mean, variance], axis=-1)
    losses, _ = diffusion_loss(lambda x, t: output, X0, KEYS, SCHEDULE, scaled)
    return losses.sum()

  mean = jax.random.normal(jax.random.key(3), X0.shape)
  variance = jnp.zeros_like(X0)
  gradients = {
    w: jax.grad(total, (0, 1))(mean, variance, w) for w in (0.0, cfg.vlb_weight)
  }
  np.testing.assert_array_equal(gradients[0.0][0], gradients[1e-3][0])
  assert np.all(gradients[0.0][1] == 0)
  assert np.all(np.any(gradients[1e-3][1] != 0, axis=(1, 2, 3)))
  assert np.all(np.isfinite(gradients[1e-3][1]))


def test_bound_enters_as_the_sum_over_all_timesteps():
  cfg = DiffusionConfig(prediction="x0", variance="learned", vlb_weight=2e-3)
  output = jnp.concatenate([X0, jnp.full_like(X0, 0.6)], axis=-1)
  loss, aux = diffusion_loss(lambda x, t: output, X0, KEYS, SCHEDULE, cfg)
  expected = [
    2e-3 * 1000 * bound(float(t), 0.8)[0] for t in aux["t"][:5] if t > 0
  ]
  np.testing.assert_allclose(loss[:5], expected, rtol=1e-3)
