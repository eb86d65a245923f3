# SPDX-License-Identifier: Apache-2.0
"""What the network says of a noisy clip, whichever way it says it.

A network predicts the noise ("eps"), the clean clip ("x0") or the velocity
("v" = alpha eps - sigma x0, arXiv 2202.00512, appendix D). Given x_t each is
an affine function of each other.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from lumiere_jax.config import DiffusionConfig
from lumiere_jax.diffusion.schedule import Schedule, expand
from lumiere_jax.shapes import Array, Float


class Prediction(NamedTuple):
  """The network's belief about x_t, in float32.

  Attributes:
    x0: the clean clip.
    eps: the noise; x_t = alpha x0 + sigma eps.
    variance: where the log-variance of the reverse step lies between the
      posterior's (0) and beta (1), per value (Improved DDPM, eq. 15); None
      where the network does not learn it.
  """

  x0: Float[Array, "b *dims c"]
  eps: Float[Array, "b *dims c"]
  variance: Float[Array, "b *dims c"] | None = None


# (x (b *dims c), t (b,)) -> raw output (b *dims c) or (b *dims 2c).
Output = Callable[[Array, Array], Array]
# (x (b *dims c), t (b,)) -> Prediction: all that a sampler knows of a model.
Denoise = Callable[[Array, Array], Prediction]


def denoiser(
  output: Output, schedule: Schedule, cfg: DiffusionConfig
) -> Denoise:
  """Turns a function that returns raw outputs into one of predictions."""

  def denoise(x, t):
    learned = cfg.variance == "learned"
    return from_output(output(x, t), x, t, schedule, cfg.prediction, learned)

  return denoise


def from_output(
  output: Float[Array, "b *dims k"],
  x_t: Float[Array, "b *dims c"],
  t: Float[Array, " b"],
  schedule: Schedule,
  kind: str,
  learned: bool,
) -> Prediction:
  """Reads a raw output of any float type as a prediction in float32.

  Args:
    output: k = c channels, or 2c with learned variance.
    x_t: what the network saw.
    t: timesteps 0..T-1.
    schedule: the noise schedule.
    kind: "eps", "x0" or "v"; "eps" needs alpha(t) > 0.
    learned: the last c channels are the variance, in [-1, 1] (IF's form).

  Raises:
    ValueError: the output has another number of channels.
  """
  mean, variance = split_output(output, x_t.shape[-1], learned)
  x_t = x_t.astype(jnp.float32)
  alpha, sigma = expand(schedule.alpha(t), x_t), expand(schedule.sigma(t), x_t)
  if kind == "eps":
    x0, eps = (x_t - sigma * mean) / alpha, mean
  elif kind == "x0":
    x0, eps = mean, eps_of(mean, x_t, t, schedule)
  else:
    x0, eps = alpha * x_t - sigma * mean, alpha * mean + sigma * x_t
  return Prediction(x0, eps, variance)


def split_output(
  output: Float[Array, "b *dims k"], channels: int, learned: bool
) -> tuple[Float[Array, "b *dims c"], Float[Array, "b *dims c"] | None]:
  """Splits a raw output into prediction and variance fraction, float32.

  Raises:
    ValueError: the output has another number of channels.
  """
  expected = channels * (2 if learned else 1)
  if output.shape[-1] != expected:
    raise ValueError(
      f"network output has {output.shape[-1]} channels, expected {expected} "
      f"(clip of {channels}, learned variance: {learned})"
    )
  output = output.astype(jnp.float32)
  if not learned:
    return output, None
  return output[..., :channels], (output[..., channels:] + 1.0) / 2.0


def eps_of(
  x0: Float[Array, "b *dims c"],
  x_t: Float[Array, "b *dims c"],
  t: Float[Array, " b"],
  schedule: Schedule,
) -> Float[Array, "b *dims c"]:
  """The noise that together with `x0` makes up `x_t`."""
  alpha, sigma = expand(schedule.alpha(t), x_t), expand(schedule.sigma(t), x_t)
  return (x_t.astype(jnp.float32) - alpha * x0) / sigma


def target(
  x0: Float[Array, "b *dims c"],
  eps: Float[Array, "b *dims c"],
  t: Float[Array, " b"],
  schedule: Schedule,
  kind: str,
) -> Float[Array, "b *dims c"]:
  """What a network of this kind should output, float32."""
  if kind == "eps":
    return eps
  if kind == "x0":
    return x0
  return (
    expand(schedule.alpha(t), eps) * eps - expand(schedule.sigma(t), x0) * x0
  )
