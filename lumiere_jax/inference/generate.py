# SPDX-License-Identifier: Apache-2.0
"""Compiled sampling of clips or images of one shape."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lumiere_jax import media, sharding
from lumiere_jax.compiling import compiler_options
from lumiere_jax.conditioning.low_res import (
  augment,
  enlarge,
  with_means,
  without_faint_details,
)
from lumiere_jax.conditioning.task import Given
from lumiere_jax.config import (
  ConditionConfig,
  DiffusionConfig,
  SamplerConfig,
  WindowsConfig,
)
from lumiere_jax.diffusion.guidance import guidance_timesteps, thresholded
from lumiere_jax.diffusion.known import consistent
from lumiere_jax.diffusion.multidiffusion import distributed, place_windows
from lumiere_jax.diffusion.prediction import Denoise, Output, denoiser
from lumiere_jax.diffusion.reuse import Reused, reuses
from lumiere_jax.diffusion.sampler import (
  Carry,
  initial_noise,
  low_res_keys,
  make_step,
  sample_keys,
  sampling_timesteps,
)
from lumiere_jax.diffusion.schedule import make_schedule
from lumiere_jax.errors import UserError
from lumiere_jax.inference.asking import (
  WithGuide,
  asked,
  asked_with_reuse,
  bound,
)
from lumiere_jax.shapes import Array, Float, Key, PyTree, UInt8

# (parameters, x, t, text, mask[, noise level]) -> raw output of the network; if
# the sampler keeps a deep feature, with the keywords and results of `STUNet`.
Apply = Callable[..., Any]


class Text(NamedTuple):
  """Encoded captions: features (b s d) and mask (b s)."""

  features: Any
  mask: Any


class Start(NamedTuple):
  """What SDEdit (arXiv 2108.01073) starts from.

  Attributes:
    clip: uint8 (b, t, h, w, 3).
    strength: share of the denoising steps that are made, 0 to 1.
  """

  clip: Any
  strength: float


class Generator:
  """Samples batches of one shape with one compiled program.

  The program runs the denoising steps [start, stop), both known only when it
  runs: a whole clip is one call, and a caller that wants to show progress
  makes one call a step of the very same program. (A callback from inside
  would keep the program out of JAX's persistent cache.)
  """

  def __init__(
    self,
    apply: Apply | WithGuide,
    shape: tuple[int, ...],
    diffusion: DiffusionConfig,
    sampler: SamplerConfig,
    windows: WindowsConfig | None = None,
    condition: ConditionConfig | None = None,
    mesh: Mesh | None = None,
    deep: jax.ShapeDtypeStruct | None = None,
  ):
    """Compiles nothing yet.

    Args:
      apply: the network, and its guide if the sampler has one; parameters are
        then of both too.
      shape: of one sample: (t, h, w, c) or (h, w, c).
      diffusion: what the network predicts.
      sampler: how to sample.
      windows: the parts of a clip that the network sees at a time; None is
        all of it.
      condition: how a low-resolution clip is brought to the network.
      mesh: the devices that share the samples and their frames; None is one.
      deep: the deep feature of one sample, if the sampler keeps it.
    """
    self.shape = shape
    self._mesh = mesh
    schedule = make_schedule(diffusion.schedule)
    timesteps = sampling_timesteps(schedule, sampler)
    self.num_steps = len(timesteps)
    interval = guidance_timesteps(sampler, schedule)
    self._timesteps = timesteps

    jit = partial(
      jax.jit,
      out_shardings=_carry_shardings(mesh, shape, sampler),
      compiler_options=compiler_options(mesh),
    )

    def started(x: Array) -> Carry:
      return Carry.start(x, sampler, Reused.start(x, sampler, deep))

    @jit
    def begin(keys: Key) -> Carry:
      return started(initial_noise(keys, shape))

    @jit
    def begin_at(keys: Key, clip: Array, t: Array) -> Carry:
      clip = media.to_float(clip)
      t = jnp.full(clip.shape[:1], t, jnp.float32)
      noise = initial_noise(keys, shape)
      return started(schedule.add_noise(clip, noise, t))

    @partial(jit, donate_argnames="carry")
    def advance(params, carry, text, negative, given, low, keys, steps):
      along, level = [], ()  # What the network sees beside noise, and is told.
      if given is not None:
        clean, mask = _as_floats(given)
        along = [mask * clean, mask]
      if low is not None:
        large, level = _enlarged(low, keys, sampler, condition)
        along, level = [large], (level,)

      def read(output: Output) -> Denoise:
        denoise = denoiser(output, schedule, diffusion)
        denoise = thresholded(denoise, schedule, sampler)
        for project in _projections(given, low, sampler, condition):
          denoise = consistent(denoise, project, schedule)
        return denoise

      network, guide = bound(apply, params)
      seen = (text, negative, level), along
      if reuses(sampler):
        denoise = asked_with_reuse(network, seen, sampler, interval, read)
      else:
        ask = asked(network, sampler, interval, guide)
        if windows is not None:
          places = place_windows(shape[:3], windows)
          ask = distributed(ask, places, windows.per_call, windows.devices)
        denoise = read(lambda x, t: ask(x, t, seen))
      step = make_step(denoise, keys, schedule, sampler, diffusion.variance)
      return jax.lax.fori_loop(*steps, step, carry)

    self._begin, self._begin_at, self._advance = begin, begin_at, advance

  def __call__(
    self,
    params: PyTree,
    text: Text,
    negative: Text,
    keys: Key,
    on_step: Callable[[], None] | None = None,
    *,
    given: Given | None = None,
    start: Start | None = None,
    low: UInt8[Any, "b *t low_h low_w c"] | None = None,
  ) -> Float[Array, "b *t h w c"]:
    """Samples a batch.

    Args:
      params: of the network.
      text: (b, ...) encoded prompts.
      negative: what guidance leads away from; leading axis b or 1.
      keys: (b,) one key for each sample.
      on_step: called after each denoising step.
      given: (b, ...) what is given of each clip, if the network is told.
      start: (b, ...) the clips to start from instead of from noise alone.
      low: (b, ...) the clips of a lower resolution to enlarge.

    Returns:
      Pixels, about [-1, 1], float32.
    """
    clip = None if start is None else start.clip
    text, negative, keys, given, clip, low = self._placed(
      text, negative, keys, given, clip, low
    )
    first = 0 if start is None else self.first_step(start.strength)
    if first == self.num_steps:
      return media.to_float(jnp.asarray(start.clip))
    carry = self._begin(keys)
    if first:
      carry = self._begin_at(keys, clip, self._timesteps[first])
    advance = partial(self._advance, params)
    if on_step is None:
      steps = _between(first, self.num_steps)
      carry = advance(carry, text, negative, given, low, keys, steps)
      return self._finished(carry)
    for i in range(first, self.num_steps):
      carry = jax.block_until_ready(
        advance(carry, text, negative, given, low, keys, _between(i, i + 1))
      )
      on_step()
    return self._finished(carry)

  def first_step(self, strength: float) -> int:
    """The step that SDEdit begins with; strength 1 makes all of them."""
    return self.num_steps - round(strength * self.num_steps)

  def compile(
    self,
    params: PyTree,
    text: Text,
    negative: Text,
    given: Given | None = None,
    low: UInt8[Any, "b *t low_h low_w c"] | None = None,
  ) -> None:
    """Compiles for a batch like `text` by running no step at all."""
    keys = sample_keys(0, range(len(text.mask)))
    text, negative, keys, given, low = self._placed(
      text, negative, keys, given, low
    )
    carry = self._begin(keys)
    advance = partial(self._advance, params)
    steps = _between(0, 0)
    carry = advance(carry, text, negative, given, low, keys, steps)
    jax.block_until_ready(carry)

  def _placed(
    self, text: Text, negative: Text, keys: Key, *others: Any
  ) -> tuple[Any, ...]:
    """The inputs of a batch where they belong.

    Raises:
      UserError: the devices cannot share a batch of this size.
    """
    inputs = (_on_device(text), _on_device(negative), keys, *others)
    if self._mesh is None:
      return inputs
    shares = sharding.batch_shares(self._mesh)
    if len(keys) % shares:
      raise UserError(
        f"a batch of {len(keys)} cannot be split over mesh.data x mesh.fsdp = "
        f"{shares} devices: it must be a multiple of that"
      )
    return sharding.place_examples(inputs, self._mesh)

  def _finished(self, carry: Carry) -> Float[Array, "b *t h w c"]:
    """The samples; of several devices, whole on each."""
    if self._mesh is None:
      return carry.x
    return jax.device_put(carry.x, sharding.replicated(self._mesh))

  def lower(
    self,
    params: PyTree,
    text: Text,
    negative: Text,
    given: Given | None = None,
    low: Any = None,
  ) -> jax.stages.Lowered:
    """The sampling program for a batch like `text`; abstract values will do.

    What it tells, once compiled, of memory holds for any number of steps.
    """
    count = text.mask.shape[0]
    keys = jax.eval_shape(lambda: sample_keys(0, range(count)))
    carry = jax.eval_shape(self._begin, keys)  # And where it will lie.
    inputs = (text, negative, given, low, keys)
    if self._mesh is not None:
      inputs = sharding.abstract_examples(inputs, self._mesh)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return self._advance.lower(params, carry, *inputs, (step, step))


def _between(first: int, last: int) -> tuple[np.int32, np.int32]:
  """Steps of one call, of the type that `Generator.lower` has.

  Python's own numbers have a weaker one, and made another program of it.
  """
  return np.int32(first), np.int32(last)


def _carry_shardings(
  mesh: Mesh | None, shape: tuple[int, ...], sampler: SamplerConfig
) -> Any:
  """Where a carry of samples of a shape lies; None leaves it to JAX."""
  if mesh is None:
    return None
  clips = sharding.batch_sharding(mesh, 1 + len(shape))
  whole = sharding.replicated(mesh)
  # Deep features are kept on one device only.
  reused = (
    Reused(whole, whole, clips, whole, whole) if reuses(sampler) else None
  )
  return Carry(clips, clips, whole, reused)


def _enlarged(
  low: Array, keys: Key, sampler: SamplerConfig, condition: ConditionConfig
) -> tuple[Float[Array, "b *t h w c"], Float[Array, " b"]]:
  """The low-resolution clip as the network sees it, and its noise level."""
  level = jnp.full(low.shape[:1], sampler.low_res_level, jnp.float32)
  large = enlarge(media.to_float(low), condition.scale, condition.align_corners)
  schedule = make_schedule(condition.schedule)
  return augment(large, level, low_res_keys(keys), schedule), level


def _projections(
  given: Given | None,
  low: Array | None,
  sampler: SamplerConfig,
  condition: ConditionConfig | None,
) -> list[Callable[[Array], Array]]:
  """What makes a clean clip agree with what is known of it, one by one."""
  found: list[Callable[[Array], Array]] = []
  if given is not None and sampler.known_pixels:
    clean, mask = _as_floats(given)
    found.append(lambda x0: mask * clean + (1.0 - mask) * x0)
  if low is not None and sampler.detail_floor:
    large = enlarge(
      media.to_float(low), condition.scale, condition.align_corners
    )
    floor = sampler.detail_floor
    found.append(lambda x0: without_faint_details(x0, large, floor))
  if low is not None and sampler.known_low_res:
    known = media.to_float(low)
    found.append(lambda x0: with_means(x0, known))
  return found


def _as_floats(given: Given) -> tuple[Array, Array]:
  """Pixels in [-1, 1] and mask, float32."""
  return media.to_float(given.pixels), given.mask.astype(jnp.float32)


def _on_device(text: Text) -> Text:
  return Text(jnp.asarray(text.features, jnp.float32), jnp.asarray(text.mask))


def batches(items: Sequence[Any], size: int) -> list[list[Any]]:
  """Splits items into batches of one size; the last is filled with repeats."""
  filled = list(items) + [items[-1]] * (-len(items) % size)
  return [filled[i : i + size] for i in range(0, len(filled), size)]
