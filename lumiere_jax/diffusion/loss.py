# SPDX-License-Identifier: Apache-2.0
"""The training loss: weighted squared error, and the bound on the variance."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from scipy.special import ndtr

from lumiere_jax.config import DiffusionConfig
from lumiere_jax.diffusion.prediction import (
  Output,
  Prediction,
  from_output,
  split_output,
  target,
)
from lumiere_jax.diffusion.schedule import Schedule, expand, lookup
from lumiere_jax.shapes import Array, Float, Key

_BIN = 1.0 / 255.0  # half the distance of two uint8 levels in [-1, 1]


def diffusion_loss(
  output: Output,
  x0: Float[Array, "b *dims c"],
  keys: Key,
  schedule: Schedule,
  cfg: DiffusionConfig,
) -> tuple[Float[Array, " b"], dict[str, Float[Array, " b"]]]:
  """The loss of each example at a timestep drawn for it, in float32.

  weight(t) mean((output - target)^2), and with learned variance
  `vlb_weight` T L_t on top, L_t in bits per value (Improved DDPM, arXiv
  2102.09672, eq. 16; its gradient reaches the variance only).

  Args:
    output: function (x_t, t (b,)) to the network's raw output.
    x0: clean clips or images in [-1, 1].
    keys: (b,) typed keys, each split into timestep and noise of its example.
    schedule: the noise schedule.
    cfg: prediction kind, timesteps, weighting, variance.

  Returns:
    The loss (b,), and for each example "t", its timestep, "mse", the squared
    error without weight, and "x0_mse", that of the clean clip which the output
    amounts to, in units that are the same for all predictions and weightings.
  """
  x0 = x0.astype(jnp.float32)
  cumulative = timestep_cdf(schedule, cfg)

  def draw(key):
    time_key, noise_key = jax.random.split(key)
    t = jnp.searchsorted(cumulative, jax.random.uniform(time_key), "right")
    return t, jax.random.normal(noise_key, x0.shape[1:], jnp.float32)

  t, eps = jax.vmap(draw)(keys)
  t = t.astype(jnp.float32)
  x_t = schedule.add_noise(x0, eps, t)
  raw = output(x_t, t)
  learned = cfg.variance == "learned"
  mean, _ = split_output(raw, x0.shape[-1], learned)
  mse = _mean((mean - target(x0, eps, t, schedule, cfg.prediction)) ** 2)
  loss = lookup(loss_weights(schedule, cfg), t) * mse
  if learned:
    prediction = from_output(raw, x_t, t, schedule, cfg.prediction, learned)
    bound = variational_bound(prediction, x0, x_t, t, schedule)
    loss += cfg.vlb_weight * schedule.num_timesteps * bound
  x0_mse = lookup(x0_factors(schedule, cfg.prediction), t) * mse
  return loss, {"t": t, "mse": mse, "x0_mse": x0_mse}


def timestep_cdf(schedule: Schedule, cfg: DiffusionConfig) -> np.ndarray:
  """Share of training draws at or below each timestep, (T,) float32.

  Timestep t stands for all between t - 0.5 and t + 0.5. For "uniform" the ends
  of these bins, moved back by the shift, give the share of uniform draws that
  the shift brings below them. For "logit_normal" (arXiv 2403.03206, section
  3.1) it is the normal distribution of log(sigma / alpha) at the ends, its
  mean raised by log(shift).
  """
  ends = np.arange(schedule.num_timesteps - 1) + 0.5
  if cfg.timestep_distribution == "logit_normal":
    mean = cfg.timestep_mean + np.log(cfg.timestep_shift)
    ratio = np.log(schedule.noise_ratio(ends))
    below = ndtr((ratio - mean) / cfg.timestep_std)
  else:
    uniform = schedule.shifted(ends, 1.0 / cfg.timestep_shift)
    below = (uniform + 0.5) / schedule.num_timesteps
  return np.append(below, 1.0).astype(np.float32)


def loss_weights(schedule: Schedule, cfg: DiffusionConfig) -> np.ndarray:
  """Weight of the squared error at each timestep, (T,) float64.

  "min_snr" weighs the error in x0 by min(SNR, gamma), arXiv 2303.09556,
  section 3.4; "v" by min(1 / sigma^2, cap). Since v = (alpha x_t - x0) / sigma
  the error in v is that in x0 / sigma, so that "v" without its cap is the
  uniform loss of v (JiT, arXiv 2511.13720, in variance-preserving form). Both
  are expressed in what the network predicts. With zero terminal SNR the weight
  of the last timestep is 0 for "min_snr".
  """
  if cfg.weighting == "uniform":
    return np.ones(schedule.num_timesteps)
  bar = schedule.alphas_cumprod
  if cfg.weighting == "v":
    on_x0 = np.minimum(1.0 / (1.0 - bar), cfg.weighting_cap)
  else:
    on_x0 = np.minimum(bar / (1.0 - bar), cfg.min_snr_gamma)
  return on_x0 * x0_factors(schedule, cfg.prediction)


def x0_factors(schedule: Schedule, kind: str) -> np.ndarray:
  """Squared error in x0 per squared error in the output, (T,) float64.

  1 for "x0", sigma^2 for "v" and sigma^2 / alpha^2 for "eps", given x_t. The
  last is infinite at pure noise, which a config with "eps" does not allow.
  """
  bar = schedule.alphas_cumprod
  if kind == "x0":
    return np.ones_like(bar)
  return 1.0 - bar if kind == "v" else (1.0 - bar) / bar


def variational_bound(
  prediction: Prediction,
  x0: Float[Array, "b *dims c"],
  x_t: Float[Array, "b *dims c"],
  t: Float[Array, " b"],
  schedule: Schedule,
) -> Float[Array, " b"]:
  """L_t in bits per value: KL of the reverse step, NLL of uint8 at t = 0.

  The predicted mean is a constant of the gradient (Improved DDPM, section
  3.3); it is trained by the squared error alone.
  """
  steps = np.arange(schedule.num_timesteps)
  posterior = schedule.posterior(steps, steps - 1)
  # The posterior at t = 0 is a point; the paper's code borrows t = 1 there.
  variance = np.append(posterior.variance[1], posterior.variance[1:])
  low = expand(lookup(np.log(variance), t), x0)
  high = expand(lookup(np.log(posterior.beta), t), x0)
  on_x0 = expand(lookup(posterior.x0, t), x0)
  on_x = expand(lookup(posterior.x, t), x0)
  mean = jax.lax.stop_gradient(on_x0 * prediction.x0 + on_x * x_t)
  log_variance = low + prediction.variance * (high - low)
  divergence = gaussian_kl(on_x0 * x0 + on_x * x_t, low, mean, log_variance)
  likelihood = uint8_log_likelihood(x0, mean, log_variance)
  bound = jnp.where(t == 0, -_mean(likelihood), _mean(divergence))
  return bound / np.log(2.0)


def gaussian_kl(
  mean: Float[Array, "*#dims"],
  log_variance: Float[Array, "*#dims"],
  other_mean: Float[Array, "*#dims"],
  other_log_variance: Float[Array, "*#dims"],
) -> Float[Array, "*#dims"]:
  """KL(N(mean, variance) || N(other_mean, other variance)) in nats."""
  difference = log_variance - other_log_variance
  squared = (mean - other_mean) ** 2 * jnp.exp(-other_log_variance)
  return 0.5 * (jnp.exp(difference) - difference - 1.0 + squared)


def uint8_log_likelihood(
  x: Float[Array, "*#dims"],
  mean: Float[Array, "*#dims"],
  log_variance: Float[Array, "*#dims"],
) -> Float[Array, "*#dims"]:
  """Log P of the uint8 level at `x` under a Gaussian (DDPM eq. 13), in nats.

  The lowest and the highest level take all that lies beyond them.
  """
  scale = jnp.exp(-0.5 * log_variance)
  upper = norm.cdf(scale * (x - mean + _BIN))
  lower = norm.cdf(scale * (x - mean - _BIN))
  upper = jnp.where(x > 1.0 - _BIN, 1.0, upper)
  lower = jnp.where(x < -1.0 + _BIN, 0.0, lower)
  return jnp.log(jnp.maximum(upper - lower, 1e-12))


def _mean(x: Float[Array, " b *dims"]) -> Float[Array, " b"]:
  return jnp.mean(x, axis=tuple(range(1, x.ndim)))
