# SPDX-License-Identifier: Apache-2.0
"""How much signal and how much noise a clip holds at each timestep.

x_t = alpha(t) x0 + sigma(t) eps with alpha^2 + sigma^2 = 1, for the discrete
timesteps 0 (almost clean) to T-1 (almost or wholly noise). Tables are made in
float64; what reaches a device is float32.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from lumiere_jax.config import ScheduleConfig
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.shapes import Array, Float, Shaped

_MAX_BETA = 0.999  # the cosine schedule's cap (Improved DDPM, section 3.2)
_SPACINGS = ("leading", "trailing", "linspace")


class Posterior(NamedTuple):
  """q(x_s | x_t, x0) for s < t: mean x0 * data + x * noisy (DDPM eq. 6, 7).

  Attributes:
    x0: coefficient of the clean clip in the mean, float64 numpy.
    x: coefficient of the noisy clip in the mean.
    variance: its variance, the lower bound of a reverse step's.
    beta: variance of q(x_t | x_s), the upper bound.
  """

  x0: np.ndarray
  x: np.ndarray
  variance: np.ndarray
  beta: np.ndarray


@dataclass(frozen=True)
class Schedule:
  """A noise schedule; equal and hashable by its config, so static under jit.

  Attributes:
    config: what it was made from.
    alphas_cumprod: alpha(t)^2 for t = 0..T-1, float64, read-only.
  """

  config: ScheduleConfig
  alphas_cumprod: np.ndarray = field(compare=False, repr=False)

  @property
  def num_timesteps(self) -> int:
    """T, the number of timesteps."""
    return len(self.alphas_cumprod)

  def alpha(self, t: Float[Array, " b"]) -> Float[Array, " b"]:
    """Factor of the clean clip in x_t, float32."""
    return lookup(np.sqrt(self.alphas_cumprod), t)

  def sigma(self, t: Float[Array, " b"]) -> Float[Array, " b"]:
    """Standard deviation of the noise in x_t, float32."""
    return lookup(np.sqrt(1.0 - self.alphas_cumprod), t)

  def log_snr(self, t: Float[Array, " b"]) -> Float[Array, " b"]:
    """log(alpha^2 / sigma^2), float32; -inf where all is noise."""
    return lookup(_log_snr(self.alphas_cumprod), t)

  def add_noise(
    self,
    x0: Float[Array, "b *dims c"],
    eps: Float[Array, "b *dims c"],
    t: Float[Array, " b"],
  ) -> Float[Array, "b *dims c"]:
    """Draws x_t from q(x_t | x0) with the given standard noise, float32."""
    x0, eps = x0.astype(jnp.float32), eps.astype(jnp.float32)
    return expand(self.alpha(t), x0) * x0 + expand(self.sigma(t), eps) * eps

  def posterior(self, t: np.ndarray, s: np.ndarray) -> Posterior:
    """Coefficients of q(x_s | x_t, x0), float64.

    Args:
      t: integer timesteps.
      s: integer timesteps before them; -1 is the clean clip.
    """
    bar_t, bar_s = self.alpha_bar(t), self.alpha_bar(s)
    beta = 1.0 - bar_t / bar_s
    return Posterior(
      x0=np.sqrt(bar_s) * beta / (1.0 - bar_t),
      x=np.sqrt(1.0 - beta) * (1.0 - bar_s) / (1.0 - bar_t),
      variance=beta * (1.0 - bar_s) / (1.0 - bar_t),
      beta=beta,
    )

  def alpha_bar(self, t: np.ndarray) -> np.ndarray:
    """alpha(t)^2 in float64 numpy at integer timesteps; 1 at t = -1."""
    # Index -1 reads the entry appended for the clean clip.
    return np.append(self.alphas_cumprod, 1.0)[np.asarray(t)]

  def shifted(self, t: np.ndarray, factor: float) -> np.ndarray:
    """Where sigma / alpha is `factor` times that at `t`; fractional, float64.

    SD3's shift for high resolutions (arXiv 2403.03206, eq. 23) in terms of
    this schedule, interpolated as in `noise_ratio`.
    """
    angle = np.arctan(factor * self.noise_ratio(t))
    return np.interp(angle, self._angles, np.arange(self.num_timesteps))

  def noise_ratio(self, t: np.ndarray) -> np.ndarray:
    """The ratio sigma / alpha at fractional timesteps, float64.

    Fractions are interpolated in the angle of (alpha, sigma), which is finite
    at pure noise.
    """
    return np.tan(np.interp(t, np.arange(self.num_timesteps), self._angles))

  @property
  def _angles(self) -> np.ndarray:
    bar = self.alphas_cumprod
    return np.arctan2(np.sqrt(1.0 - bar), np.sqrt(bar))

  def timesteps(self, spacing: str, steps: int) -> np.ndarray:
    """The integer timesteps visited in `steps` denoising steps, descending.

    Table 2 of arXiv 2305.08891. Only "trailing" and "linspace" start at T-1;
    "leading" and "linspace" end at 0.

    Args:
      spacing: "leading", "trailing" or "linspace".
      steps: how many, at most T.

    Raises:
      UserError: an unknown spacing, or more steps than timesteps.
    """
    total = self.num_timesteps
    if not 0 < steps <= total:
      raise UserError(f"sampler.steps={steps} must be in 1..{total}")
    if spacing == "leading":
      descending = np.arange(steps)[::-1] * (total // steps)
    elif spacing == "trailing":
      # Cut: rounding can give arange one entry more, which would be -1.
      descending = np.round(np.arange(total, 0, -total / steps))[:steps] - 1
    elif spacing == "linspace":
      descending = np.round(np.linspace(0, total - 1, steps))[::-1]
    else:
      raise UserError(
        f"unknown sampler.spacing={spacing!r}{nearest(spacing, _SPACINGS)}"
      )
    return descending.astype(np.int64)


def make_schedule(cfg: ScheduleConfig) -> Schedule:
  """Builds the schedule: betas, then the log-SNR shift, then the rescaling.

  "cosine" is Improved DDPM's (arXiv 2102.09672, eq. 17) as diffusers'
  squaredcos_cap_v2 has it, "linear" is DDPM's. `logsnr_shift` follows simple
  diffusion (arXiv 2301.11093, section 2.1), `zero_terminal_snr` algorithm 1 of
  arXiv 2305.08891.
  """
  steps = cfg.num_train_timesteps
  if cfg.name == "cosine":
    u = np.arange(steps + 1) / steps
    bar = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1.0 - bar[1:] / bar[:-1], _MAX_BETA)
  else:
    betas = np.linspace(cfg.beta_start, cfg.beta_end, steps)
  alphas_cumprod = np.cumprod(1.0 - betas)
  if cfg.logsnr_shift:
    log_snr = _log_snr(alphas_cumprod) + cfg.logsnr_shift
    alphas_cumprod = 1.0 / (1.0 + np.exp(-log_snr))
  if cfg.zero_terminal_snr:
    alpha = np.sqrt(alphas_cumprod)
    alpha = (alpha - alpha[-1]) * (alpha[0] / (alpha[0] - alpha[-1]))
    alphas_cumprod = alpha**2
  alphas_cumprod.flags.writeable = False
  return Schedule(cfg, alphas_cumprod)


def lookup(table: np.ndarray, t: Float[Array, " b"]) -> Float[Array, " b"]:
  """Reads a table over timesteps at `t`, which holds integers; float32."""
  return jnp.asarray(table, jnp.float32)[jnp.asarray(t).astype(jnp.int32)]


def expand(
  values: Shaped[Array, " b"], x: Shaped[Array, " b *dims"]
) -> Shaped[Array, " b *ones"]:
  """Appends axes of length 1 until `values` broadcasts against `x`."""
  return values.reshape(values.shape + (1,) * (x.ndim - 1))


def _log_snr(alphas_cumprod: np.ndarray) -> np.ndarray:
  with np.errstate(divide="ignore"):
    return np.log(alphas_cumprod) - np.log1p(-alphas_cumprod)
