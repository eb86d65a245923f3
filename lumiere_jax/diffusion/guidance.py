# SPDX-License-Identifier: Apache-2.0
"""Wrappers that push predictions towards the prompt and keep them in range."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from lumiere_jax.config import SamplerConfig
from lumiere_jax.diffusion.prediction import Denoise, Output, eps_of
from lumiere_jax.diffusion.quantile import quantile_of_magnitude
from lumiere_jax.diffusion.schedule import Schedule, expand
from lumiere_jax.shapes import Array, Bool, Float, PyTree, Shaped


def guided(
  network: Callable[[Array, Array, PyTree], Array],
  cond: PyTree,
  uncond: PyTree,
  scale: float,
  rescale: float = 0.0,
  interval: tuple[float, float] | None = None,
  guide: Callable[[Array, Array, PyTree], Array] | None = None,
  guide_scale: float = 1.0,
) -> Output:
  """Classifier-free guidance (arXiv 2207.12598) in one call of the network.

  uncond + scale (cond - uncond), taken on the raw output: both weights add up
  to 1, so the result is the same for eps, x0 and v. Channels beyond those of
  the clip (learned variance) are the conditional ones, as in IF. Autoguidance
  (arXiv 2406.02507) adds (guide_scale - 1) (cond - guide's cond), whose weights
  add up to 0.

  Args:
    network: (x (b *dims c), t (b,), condition) to the raw output.
    cond: arrays with leading axis b; closed over by the result.
    uncond: the same tree; leading axes b or 1 (one empty caption for all).
    scale: 1 calls the network once on the single batch, any other value once
      on the double batch.
    rescale: phi of arXiv 2305.08891, eq. 14 to 16: the share taken of the
      result scaled to the conditional output's standard deviation, per sample.
    interval: timesteps between which, both included, both scales hold (arXiv
      2404.07724); where all are outside of it, the network is called on the
      single batch. None is everywhere.
    guide: a worse network of the same inputs and kind of output.
    guide_scale: 1 does not call the guide, any other value once on the single
      batch.
  """

  def plain(x, t):
    return network(x, t, cond)

  if scale == guide_scale == 1.0:
    return plain

  def led(x, t):
    if scale == 1.0:
      positive = negative = plain(x, t).astype(jnp.float32)
    else:
      raw = network(pair(x, x), pair(t, t), jax.tree.map(pair, cond, uncond))
      raw = raw.astype(jnp.float32).reshape((-1, 2, *raw.shape[1:]))
      positive, negative = raw[:, 0], raw[:, 1]
    channels = x.shape[-1]
    positive, extra = positive[..., :channels], positive[..., channels:]
    negative = negative[..., :channels]
    result = positive
    if scale != 1.0:
      scales = expand(jnp.where(inside(t, interval), scale, 1.0), positive)
      result = negative + scales * (positive - negative)
    if guide_scale != 1.0:
      worse = guide(x, t, cond).astype(jnp.float32)[..., :channels]
      gain = jnp.where(inside(t, interval), guide_scale - 1.0, 0.0)
      result = result + expand(gain, positive) * (positive - worse)
    if rescale:
      result = rescaled(result, positive, rescale)
    return jnp.concatenate([result, extra], axis=-1)

  if interval is None:
    return led

  def output(x, t):
    return jax.lax.cond(
      jnp.any(inside(t, interval)),
      led,
      lambda x, t: plain(x, t).astype(jnp.float32),
      x,
      t,
    )

  return output


def pair(
  positive: Shaped[Array, " b *dims"], negative: Shaped[Array, " n *dims"]
) -> Shaped[Array, " b2 *dims"]:
  """The double batch of both halves of all samples; n is b or 1.

  Those of a sample stay neighbours: a batch that is split over devices needs
  no communication.
  """
  negative = jnp.broadcast_to(negative, positive.shape)
  both = jnp.stack([positive, negative], axis=1)
  return both.reshape((-1, *positive.shape[1:]))


def inside(
  t: Float[Array, " b"], interval: tuple[float, float] | None
) -> Bool[Array, " b"]:
  """Which timesteps have guidance: all of them if the interval is None."""
  low, high = interval or (-jnp.inf, jnp.inf)
  return (t >= low) & (t <= high)


def rescaled(
  result: Float[Array, "b *dims c"],
  positive: Float[Array, "b *dims c"],
  share: float,
) -> Float[Array, "b *dims c"]:
  """A guided output drawn to the conditional one's standard deviation.

  As `guided` says of its `rescale`, which is the share here.
  """
  ratio = _std(positive) / _std(result)
  return result * expand(share * ratio + (1.0 - share), result)


def guidance_timesteps(
  cfg: SamplerConfig, schedule: Schedule
) -> tuple[float, float] | None:
  """The timesteps that have guidance; None is all of them."""
  if cfg.guidance_interval == (0.0, 1.0):
    return None
  low, high = cfg.guidance_interval
  return low * schedule.num_timesteps, high * schedule.num_timesteps


def thresholded(
  denoise: Denoise, schedule: Schedule, cfg: SamplerConfig
) -> Denoise:
  """Bounds the predicted clean clip and derives the noise from it anew.

  "static" clips to [-1, 1]; "dynamic" clips to [-s, s] and divides by s, the
  `threshold_quantile` of |x0| within 1..`threshold_max` (Imagen, arXiv
  2205.11487, section 2.3). There is one s for a clip: one for each frame would
  make brightness flicker. "none" returns `denoise` itself.
  """
  if cfg.threshold == "none":
    return denoise

  def bounded(x, t):
    prediction = denoise(x, t)
    x0 = prediction.x0
    if cfg.threshold == "dynamic":
      bound = quantile_of_magnitude(x0, cfg.threshold_quantile)
      bound = expand(jnp.clip(bound, 1.0, cfg.threshold_max), x0)
      x0 = jnp.clip(x0, -bound, bound) / bound
    else:
      x0 = jnp.clip(x0, -1.0, 1.0)
    return prediction._replace(x0=x0, eps=eps_of(x0, x, t, schedule))

  return bounded


def _std(x: Float[Array, " b *dims"]) -> Float[Array, " b"]:
  return jnp.std(x, axis=tuple(range(1, x.ndim)))
