# SPDX-License-Identifier: Apache-2.0
"""Guidance that takes from earlier steps what it would compute anew.

From one denoising step to the next little changes of what guidance adds, and of
what the coarse levels of a network say. So some steps do without: the guidance
cache keeps conditional minus unconditional output and calls the network on the
single batch ("CFG-Cache" of FasterCache, arXiv 2410.19355, in its plainest
form: the difference as it is), the deep cache keeps what the coarse levels hand
to the fine ones (DeepCache, arXiv 2312.00858). Both change the result.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lumiere_jax.config import SamplerConfig
from lumiere_jax.diffusion.guidance import inside, pair, rescaled
from lumiere_jax.shapes import Array, Float, PyTree

# (x (b *dims c), t (b,), condition, deep feature (b *deep) or None) to the raw
# output and the deep feature, the given one or, for None, one made anew. A
# network whose deep levels are not kept gives None back.
DeepNetwork = Callable[
  [Array, Array, PyTree, Array | None], tuple[Array, Array | None]
]


class Reused(NamedTuple):
  """What a step leaves to those after it.

  Attributes:
    made: steps so far, those of SDEdit from the first that is made.
    led: those of them that had guidance.
    difference: (b *dims c) float32 conditional minus unconditional output of
      the last step that had both; None without a guidance cache.
    deep: (b halves *deep) the deep feature, of the conditional half first and,
      with guidance, of the unconditional one; None without a deep cache.
    paired: whether both halves of `deep` are of the same step.
  """

  made: Array
  led: Array
  difference: Array | None
  deep: Array | None
  paired: Array

  @classmethod
  def start(
    cls,
    x: Float[Array, "b *dims c"],
    cfg: SamplerConfig,
    deep: jax.ShapeDtypeStruct | None,
  ) -> "Reused | None":
    """Before the first step; None where nothing is reused.

    Args:
      x: the clip to start from.
      cfg: the sampler.
      deep: the deep feature of one sample, if it is kept.
    """
    if not reuses(cfg):
      return None
    feature = None
    if cfg.deep_every > 1:
      halves = 1 if cfg.guidance == 1.0 else 2
      feature = jnp.zeros((len(x), halves, *deep.shape), deep.dtype)
    return cls(
      made=jnp.zeros((), jnp.int32),
      led=jnp.zeros((), jnp.int32),
      difference=jnp.zeros_like(x, jnp.float32) if _keeps(cfg) else None,
      deep=feature,
      paired=jnp.asarray(False),
    )

  def since(self, begun: Array) -> "Reused":
    """This one, or one that tells nothing where no step was made."""
    return self._replace(
      made=jnp.where(begun, self.made, 0), led=jnp.where(begun, self.led, 0)
    )


def reuses(cfg: SamplerConfig) -> bool:
  """Whether steps of a sampler take anything from earlier ones."""
  return _keeps(cfg) or cfg.deep_every > 1


def _keeps(cfg: SamplerConfig) -> bool:
  """Whether there is a guidance cache; without guidance there is no use."""
  return cfg.guidance_every > 1 and cfg.guidance != 1.0


def reusing(
  network: DeepNetwork,
  cond: PyTree,
  uncond: PyTree,
  cfg: SamplerConfig,
  interval: tuple[float, float] | None = None,
) -> Callable[[Array, Array, Reused], tuple[Array, Reused]]:
  """As `guidance.guided`, with what earlier steps have left.

  Of the steps with guidance every `guidance_every`-th calls the network on the
  double batch. Those in between add the last difference to the conditional
  output: cond + (scale - 1) difference. Of all steps every `deep_every`-th
  runs the deep levels. A step on the single batch runs them for the conditional
  half only; the next one on the double batch then runs them whatever its
  number, so that both halves of a difference are of features of one step. (No
  such step is added where one of the two numbers is a multiple of the other.)

  Args:
    network: called once in every branch.
    cond: arrays with leading axis b; closed over by the result.
    uncond: the same tree; leading axes b or 1.
    cfg: the sampler.
    interval: timesteps that have guidance; None is everywhere. All samples are
      at the same timestep.

  Returns:
    (x (b *dims c), t (b,), what is left) to raw output, float32, and what is
    left to the next step.
  """
  leads = cfg.guidance != 1.0
  call = partial(_call, network)

  def ask(x: Array, t: Array, left: Reused) -> tuple[Array, Reused]:
    led = leads & jnp.any(inside(t, interval))
    due = left.made % cfg.deep_every == 0

    def added(positive: Array, difference: Array) -> Array:
      channels = x.shape[-1]
      positive, extra = positive[..., :channels], positive[..., channels:]
      gain = jnp.where(led, cfg.guidance - 1.0, 0.0)
      result = positive + gain * difference
      if cfg.guidance_rescale:
        result = rescaled(result, positive, cfg.guidance_rescale)
      return jnp.concatenate([result, extra], axis=-1)

    def double(left: Reused) -> tuple[Array, Reused]:
      deep = left.deep
      if deep is not None:
        deep = deep.reshape((-1, *deep.shape[2:]))
      seen = jax.tree.map(pair, cond, uncond)
      raw, deep = call(pair(x, x), pair(t, t), seen, deep, due | ~left.paired)
      raw = raw.astype(jnp.float32).reshape((-1, 2, *raw.shape[1:]))
      difference = (raw[:, 0] - raw[:, 1])[..., : x.shape[-1]]
      if deep is not None:
        left = left._replace(deep=deep.reshape(left.deep.shape))
      if _keeps(cfg):
        left = left._replace(difference=difference)
      return added(raw[:, 0], difference), left._replace(
        paired=jnp.asarray(True)
      )

    def single(left: Reused) -> tuple[Array, Reused]:
      deep = None if left.deep is None else left.deep[:, 0]
      raw, deep = call(x, t, cond, deep, due)
      raw = raw.astype(jnp.float32)
      if deep is not None:
        left = left._replace(
          deep=left.deep.at[:, 0].set(deep), paired=left.paired & ~due
        )
      if left.difference is not None:
        raw = added(raw, left.difference)
      return raw, left

    if not leads:
      raw, left = single(left)
    elif interval is None and not _keeps(cfg):
      raw, left = double(left)
    else:
      whole = led & (left.led % cfg.guidance_every == 0)
      raw, left = jax.lax.cond(whole, double, single, left)
    return raw, left._replace(made=left.made + 1, led=left.led + led)

  return ask


def _call(
  network: DeepNetwork,
  x: Array,
  t: Array,
  seen: PyTree,
  deep: Array | None,
  due: Array,
) -> tuple[Array, Array | None]:
  """The whole network where it is due, else with the kept deep feature."""
  if deep is None:
    return network(x, t, seen, None)
  return jax.lax.cond(
    due,
    lambda deep: network(x, t, seen, None),
    lambda deep: network(x, t, seen, deep),
    deep,
  )
