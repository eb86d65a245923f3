# SPDX-License-Identifier: Apache-2.0
"""Compiled sampling of clips or images of one shape."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lumiere_jax.config import DiffusionConfig, SamplerConfig
from lumiere_jax.diffusion.guidance import (
  guidance_timesteps,
  guided,
  thresholded,
)
from lumiere_jax.diffusion.prediction import denoiser
from lumiere_jax.diffusion.sampler import (
  Carry,
  initial_noise,
  make_step,
  sample_keys,
  sampling_timesteps,
)
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.shapes import Array, Float, Key, PyTree

# (parameters, x, t, text, mask) -> raw output of the network
Apply = Callable[[PyTree, Array, Array, Array, Array], Array]


class Text(NamedTuple):
  """Encoded captions: features (b s d) and mask (b s)."""

  features: Any
  mask: Any


class Generator:
  """Samples batches of one shape with one compiled program.

  The program runs the denoising steps [start, stop), both known only when it
  runs: a whole clip is one call, and a caller that wants to show progress
  makes one call a step of the very same program. (A callback from inside
  would keep the program out of JAX's persistent cache.)
  """

  def __init__(
    self,
    apply: Apply,
    shape: tuple[int, ...],
    diffusion: DiffusionConfig,
    sampler: SamplerConfig,
  ):
    """Compiles nothing yet.

    Args:
      apply: the network.
      shape: of one sample: (t, h, w, c) or (h, w, c).
      diffusion: what the network predicts.
      sampler: how to sample.
    """
    self.shape = shape
    schedule = make_schedule(diffusion.schedule)
    self.num_steps = len(sampling_timesteps(schedule, sampler))
    interval = guidance_timesteps(sampler, schedule)

    @jax.jit
    def begin(keys: Key) -> Carry:
      noise = initial_noise(keys, shape)
      return Carry(noise, jnp.zeros_like(noise))

    @partial(jax.jit, donate_argnames="carry")
    def advance(params, carry, text, negative, keys, start, stop):
      def network(x, t, condition):
        return apply(params, x, t, *condition)

      output = guided(
        network,
        text,
        negative,
        sampler.guidance,
        sampler.guidance_rescale,
        interval,
      )
      denoise = denoiser(output, schedule, diffusion)
      denoise = thresholded(denoise, schedule, sampler)
      step = make_step(denoise, keys, schedule, sampler, diffusion.variance)
      return jax.lax.fori_loop(start, stop, step, carry)

    self._begin, self._advance = begin, advance

  def __call__(
    self,
    params: PyTree,
    text: Text,
    negative: Text,
    keys: Key,
    on_step: Callable[[], None] | None = None,
  ) -> Float[Array, "b *t h w c"]:
    """Samples a batch.

    Args:
      params: of the network.
      text: (b, ...) encoded prompts.
      negative: what guidance leads away from; leading axis b or 1.
      keys: (b,) one key for each sample.
      on_step: called after each denoising step.

    Returns:
      Pixels, about [-1, 1], float32.
    """
    text, negative = _on_device(text), _on_device(negative)
    advance = partial(self._advance, params)
    carry = self._begin(keys)
    if on_step is None:
      return advance(carry, text, negative, keys, 0, self.num_steps).x
    for i in range(self.num_steps):
      carry = jax.block_until_ready(
        advance(carry, text, negative, keys, i, i + 1)
      )
      on_step()
    return carry.x

  def compile(self, params: PyTree, text: Text, negative: Text) -> None:
    """Compiles for a batch like `text` by running no step at all."""
    keys = sample_keys(0, range(len(text.mask)))
    text, negative = _on_device(text), _on_device(negative)
    carry = self._begin(keys)
    carry = self._advance(params, carry, text, negative, keys, 0, 0)
    jax.block_until_ready(carry)


def _on_device(text: Text) -> Text:
  return Text(jnp.asarray(text.features, jnp.float32), jnp.asarray(text.mask))


def batches(items: Sequence[Any], size: int) -> list[list[Any]]:
  """Splits items into batches of one size; the last is filled with repeats."""
  filled = list(items) + [items[-1]] * (-len(items) % size)
  return [filled[i : i + size] for i in range(0, len(filled), size)]
