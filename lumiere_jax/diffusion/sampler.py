# SPDX-License-Identifier: Apache-2.0
"""Samplers: one scan over timesteps, and a table of coefficients for each.

Every step of every sampler here has the form

  x' = a x + b x0 + c eps + d x0_before + std noise

with x0 and eps predicted from x, and x0_before the x0 of the step before. A
sampler is its table of (a, b, c, d, std), made in float64 before anything
runs. All tables end with a = c = d = std = 0 and b = 1: the last step returns
x0.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax.config import SamplerConfig
from lumiere_jax.diffusion.prediction import Denoise, Prediction
from lumiere_jax.diffusion.reuse import Reused
from lumiere_jax.diffusion.schedule import Schedule
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Array, Float, Key

# Folded into a sample's key for its first noise, and for that of the clip it
# enlarges; no timestep is as large.
_INITIAL, _LOW_RES = 2**32 - 1, 2**32 - 2
# Stands for alpha^2 = 0 where DPM-Solver needs a finite log-SNR (as diffusers).
_TINY = 2.0**-24
# Samplers that use the clean clip predicted one step before.
_MULTISTEP = ("dpmpp_2m",)

# (x (b *dims c), t (b,), reused) -> Prediction, what the next step may reuse.
ReusingDenoise = Callable[[Array, Array, Reused], tuple[Prediction, Reused]]


class Table(NamedTuple):
  """Coefficients of all steps, (steps,) each, float64 until they are scanned.

  Attributes:
    x: a, of the noisy clip.
    x0: b, of the predicted clean clip.
    eps: c, of the predicted noise.
    before: d, of the clean clip predicted one step before.
    low: log-variance of the noise where the variance fraction is 0.
    high: the same where it is 1; std = exp((low + fraction (high - low)) / 2).
    noisy: 1 where noise is added, else 0.
  """

  x: np.ndarray
  x0: np.ndarray
  eps: np.ndarray
  before: np.ndarray
  low: np.ndarray
  high: np.ndarray
  noisy: np.ndarray


def sample_keys(seed: int, sample_ids: Sequence[int]) -> Key:
  """One typed key per sample, a function of (seed, sample id) only: (b,).

  Threefry whatever the default: other generators draw different numbers for a
  batch of keys than for each key alone.
  """
  fold = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
  return fold(
    jax.random.key(seed, impl="threefry2x32"),
    jnp.asarray(sample_ids, jnp.uint32),
  )


def initial_noise(
  keys: Key, shape: tuple[int, ...]
) -> Float[Array, "b *dims c"]:
  """Standard noise to start from; row i depends on keys[i] only.

  Args:
    keys: (b,) typed keys.
    shape: of one sample, (t h w c) or (h w c).
  """
  return step_noise(keys, _INITIAL, shape)


def step_noise(
  keys: Key, t: Array | int, shape: tuple[int, ...]
) -> Float[Array, "b *dims c"]:
  """Standard noise added after timestep `t`; row i depends on keys[i] only.

  It hangs on the timestep, not on the count of steps: the tail of a run draws
  what the whole run draws there.
  """
  t = jnp.asarray(t, jnp.uint32)

  def draw(key):
    return jax.random.normal(jax.random.fold_in(key, t), shape, jnp.float32)

  return jax.vmap(draw)(keys)


def low_res_keys(keys: Key) -> Key:
  """Keys of the noise of low-resolution clips: (b,), each of keys[i] only."""
  return jax.vmap(lambda key: jax.random.fold_in(key, _LOW_RES))(keys)


def sampling_timesteps(schedule: Schedule, cfg: SamplerConfig) -> np.ndarray:
  """The timesteps a sampler visits, descending integers.

  As in diffusers, DPM-Solver++ takes "leading" and "linspace" timesteps of one
  more step and leaves out the last, t = 0.

  Raises:
    UserError: more steps than timesteps, or a shift that makes some the same.
  """
  if cfg.name == "dpmpp_2m" and cfg.spacing != "trailing":
    if cfg.steps >= schedule.num_timesteps:
      raise UserError(
        f"sampler.steps={cfg.steps} must be in 1..{schedule.num_timesteps - 1} "
        f"with sampler.spacing={cfg.spacing!r} of {cfg.name!r}"
      )
    timesteps = schedule.timesteps(cfg.spacing, cfg.steps + 1)[:-1]
  else:
    timesteps = schedule.timesteps(cfg.spacing, cfg.steps)
  shifted = np.round(schedule.shifted(timesteps, cfg.timestep_shift))
  if (distinct := len(np.unique(shifted))) < len(timesteps):
    raise UserError(
      f"sampler.steps={cfg.steps} fall on only {distinct} timesteps with "
      f"sampler.timestep_shift={cfg.timestep_shift}; take fewer steps or less "
      "shift"
    )
  return shifted.astype(np.int64)


class Carry(NamedTuple):
  """What a sampler carries from step to step.

  Attributes:
    x: (b *dims c) the clip so far, float32.
    before: the clean clip predicted one step before, zeros at first; None for a
      sampler of one step, whose clips take no memory for it.
    begun: whether a step was made; before that `before` tells nothing, nor does
      `reused`.
    reused: what steps leave to those after them; None where they leave nothing.
  """

  x: Array
  before: Array | None
  begun: Array
  reused: Reused | None = None

  @classmethod
  def start(
    cls,
    x: Float[Array, "b *dims c"],
    cfg: SamplerConfig,
    reused: Reused | None = None,
  ) -> "Carry":
    """Before the first step, whichever that is."""
    x = x.astype(jnp.float32)
    before = jnp.zeros_like(x) if cfg.name in _MULTISTEP else None
    return cls(x, before, jnp.asarray(False), reused)


def make_step(
  denoise: Denoise | ReusingDenoise,
  keys: Key,
  schedule: Schedule,
  cfg: SamplerConfig,
  variance: str,
  timesteps: np.ndarray | None = None,
) -> Callable[[Array, Carry], Carry]:
  """Builds (number of the step, carry) to carry, for a loop of any kind.

  Args:
    denoise: (x, t (b,) float32) to Prediction; with a carry that has something
      to reuse (x, t, reused) to Prediction and what the next step may reuse.
    keys: (b,) typed keys; the noise of sample i depends on keys[i] only.
    schedule: the noise schedule.
    cfg: sampler, steps, spacing, eta.
    variance: of a "ddpm" step: "fixed_small", "fixed_large" or "learned".
    timesteps: concrete descending integers to visit instead of
      `sampling_timesteps`, as its tail for SDEdit.

  Raises:
    ValueError: timesteps do not descend within 0..T-1, or the variance is
      learned and `denoise` gives none.
  """
  if timesteps is None:
    timesteps = sampling_timesteps(schedule, cfg)
  timesteps = np.asarray(timesteps, np.int64)
  inside = np.all((timesteps >= 0) & (timesteps < schedule.num_timesteps))
  if not inside or np.any(np.diff(timesteps) >= 0):
    raise ValueError(f"timesteps {timesteps} must descend within the schedule")
  table = coefficients(schedule, cfg, timesteps)
  stochastic = bool(np.any(table.noisy))
  table = jax.tree.map(lambda column: jnp.asarray(column, jnp.float32), table)
  visited = jnp.asarray(timesteps, jnp.int32)

  def step(i: Array, carry: Carry) -> Carry:
    x = carry.x
    t, c = visited[i], jax.tree.map(lambda column: column[i], table)
    seen = x, jnp.full(x.shape[:1], t, jnp.float32)
    if carry.reused is None:
      p, reused = denoise(*seen), None
    else:
      p, reused = denoise(*seen, carry.reused.since(carry.begun))
    result = c.x * x + c.x0 * p.x0 + c.eps * p.eps
    before = None
    if carry.before is not None:
      # A multistep sampler's first step, wherever it begins, is of first order.
      result += c.before * jnp.where(carry.begun, carry.before, p.x0)
      before = p.x0
    if stochastic:
      fraction = _fraction(p.variance, cfg, variance)
      std = c.noisy * jnp.exp(0.5 * (c.low + fraction * (c.high - c.low)))
      result += std * step_noise(keys, t, x.shape[1:])
    return Carry(result, before, jnp.asarray(True), reused)

  return step


def sample(
  denoise: Denoise,
  x_init: Float[Array, "b *dims c"],
  keys: Key,
  schedule: Schedule,
  cfg: SamplerConfig,
  variance: str,
  timesteps: np.ndarray | None = None,
) -> Float[Array, "b *dims c"]:
  """Denoises `x_init` in one `lax.scan`; call it under `jax.jit`.

  Args:
    denoise: as in `make_step`, as all arguments but `x_init`.
    x_init: the clip at the first timestep; standard noise, or for SDEdit a
      clip noised to timesteps[0].
    keys: (b,) typed keys.
    schedule: the noise schedule.
    cfg: sampler, steps, spacing, eta.
    variance: of a "ddpm" step.
    timesteps: what to visit; none of them returns `x_init`.

  Returns:
    The predicted clean clip, float32.
  """
  if timesteps is None:
    timesteps = sampling_timesteps(schedule, cfg)
  x_init = x_init.astype(jnp.float32)
  if not len(timesteps):
    return x_init
  step = make_step(denoise, keys, schedule, cfg, variance, timesteps)
  carry, _ = jax.lax.scan(
    lambda carry, i: (step(i, carry), None),
    Carry.start(x_init, cfg),
    jnp.arange(len(timesteps)),
  )
  return carry.x


def coefficients(
  schedule: Schedule, cfg: SamplerConfig, timesteps: np.ndarray
) -> Table:
  """The table of a sampler over these descending timesteps, float64."""
  following = np.append(timesteps[1:], -1)[: len(timesteps)]
  if cfg.name == "ddpm":
    return _ddpm(schedule, timesteps, following)
  if cfg.name == "ddim":
    return _ddim(schedule, timesteps, following, cfg.eta)
  return _dpmpp_2m(schedule, timesteps, following)


def _ddpm(schedule: Schedule, t: np.ndarray, s: np.ndarray) -> Table:
  """Ancestral sampling (DDPM, algorithm 2) between timesteps any far apart."""
  posterior = schedule.posterior(t, s)
  none = np.zeros(len(t))
  return Table(
    x=posterior.x,
    x0=posterior.x0,
    eps=none,
    before=none,
    low=np.log(np.maximum(posterior.variance, 1e-20)),
    high=np.log(posterior.beta),
    noisy=(s >= 0).astype(np.float64),
  )


def _ddim(
  schedule: Schedule, t: np.ndarray, s: np.ndarray, eta: float
) -> Table:
  """DDIM (arXiv 2010.02502, eq. 12 and 16)."""
  none = np.zeros(len(t))
  bar_s = schedule.alpha_bar(s)
  variance = eta**2 * schedule.posterior(t, s).variance
  log_variance = np.log(np.maximum(variance, 1e-20))
  return Table(
    x=none,
    x0=np.sqrt(bar_s),
    eps=np.sqrt(np.maximum(1.0 - bar_s - variance, 0.0)),
    before=none,
    low=log_variance,
    high=log_variance,
    noisy=(variance > 0).astype(np.float64),
  )


def _dpmpp_2m(schedule: Schedule, t: np.ndarray, s: np.ndarray) -> Table:
  """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2), in the midpoint form.

  The first step has no step before it and the last ends at infinite log-SNR:
  both are of first order.
  """
  none = np.zeros(len(t))
  bar_t, bar_s = schedule.alpha_bar(t), schedule.alpha_bar(s)
  snr_t = np.where(bar_t == 0.0, _TINY, bar_t) / (1.0 - bar_t)
  with np.errstate(divide="ignore"):
    h = 0.5 * np.log(bar_s / (1.0 - bar_s) / snr_t)  # infinite at the end
  share = np.zeros(len(t))
  share[1:-1] = 0.5 * h[1:-1] / h[:-2]
  whole = -np.sqrt(bar_s) * np.expm1(-h)
  return Table(
    x=np.sqrt((1.0 - bar_s) / (1.0 - bar_t)),
    x0=whole * (1.0 + share),
    eps=none,
    before=-whole * share,
    low=none,
    high=none,
    noisy=none,
  )


def _fraction(
  learned: Float[Array, "b *dims c"] | None, cfg: SamplerConfig, variance: str
) -> Float[Array, "b *dims c"] | float:
  """Where a step's log-variance lies between low (0) and high (1)."""
  if cfg.name != "ddpm" or variance == "fixed_small":
    return 0.0
  if variance == "fixed_large":
    return 1.0
  if learned is None:
    raise ValueError("variance='learned' needs a network that predicts it")
  return learned
