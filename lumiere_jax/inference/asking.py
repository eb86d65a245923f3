# SPDX-License-Identifier: Apache-2.0
"""How a denoising step asks the network, and what it tells it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lumiere_jax.config import SamplerConfig, UNetConfig, WindowsConfig
from lumiere_jax.diffusion.guidance import guided
from lumiere_jax.diffusion.multidiffusion import place_windows
from lumiere_jax.diffusion.prediction import Denoise, Output
from lumiere_jax.diffusion.reuse import reuses, reusing
from lumiere_jax.diffusion.sampler import ReusingDenoise
from lumiere_jax.errors import UserError
from lumiere_jax.models.deep import deep_shape
from lumiere_jax.shapes import Array


class WithGuide(NamedTuple):
  """A network and the worse one that steps are pushed away from.

  Attributes:
    main: the network's function, or its parameters.
    guide: the same of the guide.
  """

  main: Any
  guide: Any


def bound(
  apply: Callable[..., Any] | WithGuide, params: Any
) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
  """The network with its parameters, and the guide with its own, if any."""
  if isinstance(apply, WithGuide):
    return partial(apply.main, params.main), partial(apply.guide, params.guide)
  return partial(apply, params), None


def asked(
  network: Callable[..., Array],
  sampler: SamplerConfig,
  interval: tuple[float, float] | None,
  guide: Callable[..., Array] | None = None,
) -> Callable[[Array, Array, Any], Array]:
  """The guided network of (x, t, ((text, negative, level), along)).

  `along` are clips that it, and the guide, see with the noisy one.
  """

  def plain(network, x, t, seen):
    (words, level), along = seen
    return network(jnp.concatenate([x, *along], -1), t, *words, *level)

  def ask(x, t, seen):
    (text, negative, level), along = seen
    return guided(
      partial(plain, network),
      ((text, level), along),
      ((negative, level), along),
      sampler.guidance,
      sampler.guidance_rescale,
      interval,
      partial(plain, guide),
      sampler.guide_scale,
    )(x, t)

  return ask


def asked_with_reuse(
  network: Callable[..., Any],
  seen: Any,
  sampler: SamplerConfig,
  interval: tuple[float, float] | None,
  read: Callable[[Output], Denoise],
) -> ReusingDenoise:
  """What a step predicts, and leaves, of (x, t, what earlier ones have left).

  Args:
    network: the raw output, and for a deep cache the deep feature, of (x, t,
      features, mask[, noise level]) and, for a deep cache, its keywords.
    seen: ((text, negative, level), along) as in `asked`.
    sampler: how to sample.
    interval: timesteps that have guidance.
    read: makes predictions of raw outputs.
  """
  (text, negative, level), along = seen

  def call(x, t, told, deep):
    (words, level), along = told
    x = jnp.concatenate([x, *along], -1)
    if sampler.deep_every == 1:
      return network(x, t, *words, *level), None
    kept = {"deep_level": sampler.deep_level, "deep": deep}
    return network(x, t, *words, *level, **kept)

  ask = reusing(
    call,
    ((text, level), along),
    ((negative, level), along),
    sampler,
    interval,
  )

  def denoise(x, t, left):
    raw, left = ask(x, t, left)
    return read(lambda x, t: raw)(x, t), left

  return denoise


def kept_feature(
  sampler: SamplerConfig,
  model: UNetConfig,
  shape: tuple[int, ...],
  windows: WindowsConfig | None,
  mesh: Mesh | None,
) -> jax.ShapeDtypeStruct | None:
  """The deep feature of a sample that its sampler keeps; None if it keeps none.

  Args:
    sampler: how to sample.
    model: the network.
    shape: of the sample.
    windows: the parts of it that the network sees at a time; None is all of it.
    mesh: the devices; None is one.

  Raises:
    UserError: the sampler cannot reuse what it is to: the network sees the
      sample in parts, there are several devices, or no such level.
  """
  if not reuses(sampler):
    return None
  name = "deep_every" if sampler.deep_every > 1 else "guidance_every"
  what = f"sampler.{name}={getattr(sampler, name)}"
  if windows is not None:
    parts = len(place_windows(shape[:3], windows).starts)
    if parts > 1 or windows.devices > 1:
      raise UserError(
        f"{what} is for clips that the network sees whole, not for windows.* "
        f"that make {parts} of them on {windows.devices} devices: it must be 1"
      )
  if sampler.deep_every == 1:
    return None
  if mesh is not None and mesh.size > 1:
    raise UserError(
      f"{what} is for one device, but mesh.* name {mesh.size}: it must be 1"
    )
  if sampler.deep_level >= model.num_levels:
    raise UserError(
      f"sampler.deep_level={sampler.deep_level} must be in "
      f"1..{model.num_levels - 1}, the levels below the finest of "
      f"{model.num_levels}"
    )
  return deep_shape(model, shape, sampler.deep_level)
