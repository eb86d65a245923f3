# SPDX-License-Identifier: Apache-2.0
"""lumiere_jax as a library: load weights, make clips."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lumiere_jax import build, encoders, media
from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.task import (
  TASKS,
  Material,
  find_task,
  prepare,
)
from lumiere_jax.config import Config, SamplerConfig, from_dict, told_as
from lumiere_jax.diffusion.multidiffusion import place_windows
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.segments import segment_borders
from lumiere_jax.inference.asking import WithGuide
from lumiere_jax.inference.generate import Generator, Start, Text, batches
from lumiere_jax.inference.prompt import Request, check_prompt, requests
from lumiere_jax.linked import (
  conditional_config,
  guide_config,
  upscaler_config,
  weights_config,
)
from lumiere_jax.shapes import PyTree, UInt8
from lumiere_jax.text.encoder import Encoder
from lumiere_jax.weights import folder


class Lumiere:
  """A model that is ready to make clips.

  >>> from lumiere_jax import Lumiere
  >>> clips = Lumiere.load("demo").generate(["a ghost spinning"], seed=0)

  Attributes:
    config: its resolved configuration.
    info: fingerprint and size of its weights.
  """

  def __init__(
    self,
    config: Config,
    params: PyTree,
    info: folder.Info,
    encoder: Encoder | None = None,
  ):
    """Wraps loaded parameters; `Lumiere.load` is the usual way."""
    self.config = config
    self.info = info
    self._mesh = build.sampling_mesh(config)
    self._params = params
    self._encoder = encoder or encoders.text_encoder(config)
    self._conditional: Lumiere | None = None
    self._upscaler: Lumiere | None = None
    # Shared with all that `with_style` makes of this one.
    self._generators: dict[tuple[bool, SamplerConfig], Generator] = {}
    self._guides: dict[str, PyTree] = {}  # Parameters by the guide's name.

  @classmethod
  def load(cls, name: str = "demo") -> "Lumiere":
    """Loads a shipped model by name, or any weights folder by path.

    Raises:
      UserError: no such weights, or the text encoder is not installed.
    """
    return cls.from_config(from_dict(weights_config(name)))

  @classmethod
  def from_config(
    cls, config: Config, encoder: Encoder | None = None
  ) -> "Lumiere":
    """Loads the weights that a resolved configuration names.

    Args:
      config: the configuration.
      encoder: of its text, if it is loaded already.

    Raises:
      UserError: no such weights, or they do not fit the configuration.
    """
    guide_config(config)  # One that does not fit is refused before the work.
    mesh = build.sampling_mesh(config)
    params, info = build.load_params(config.weights, config.model, mesh)
    if config.style:
      params = build.styled_params(config, params)
    return cls(config, params, info, encoder)

  def generate(
    self,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    num_samples: int = 1,
    negative_prompt: str = "",
    task: str = "text_to_video",
    material: Material | None = None,
    sampler: SamplerConfig | None = None,
    batch_size: int = 1,
  ) -> UInt8[np.ndarray, "n *t h w 3"]:
    """Makes clips, or images with task="text_to_image".

    A sample is a function of prompt, seed and its number among the samples of
    its prompt: it is the same whatever is made beside it.

    Args:
      prompts: what to show.
      seed: of the noise.
      num_samples: samples of each prompt, side by side in the result.
      negative_prompt: what guidance leads away from.
      task: one of `conditioning.task.TASKS`, which says what it needs.
      material: `lumiere_jax.Material(image=...)` or what else the task needs,
        of `clip_size`; `lumiere_jax.media` reads files to it.
      sampler: other settings than the config's.
      batch_size: samples made at once.

    Returns:
      uint8 (n, t, h, w, 3), or (n, h, w, 3) for images.

    Raises:
      UserError: no prompt, an empty one, an unknown task, no samples, or
        material that is not what the task takes.
    """
    if isinstance(prompts, str) or not prompts:
      raise UserError(f"prompts={prompts!r} must be a list of prompts")
    if batch_size < 1:
      raise UserError(f"batch_size={batch_size} must be at least 1")
    todo = requests([check_prompt(p) for p in prompts], num_samples)
    return np.concatenate(
      [
        self.for_task(task).run(
          batch,
          seed=seed,
          negative_prompt=negative_prompt,
          task=task,
          material=material,
          sampler=sampler,
        )
        for batch in batches(todo, batch_size)
      ]
    )[: len(todo)]

  def run(
    self,
    batch: Sequence[Request],
    *,
    seed: int,
    negative_prompt: str = "",
    task: str = "text_to_video",
    material: Material | None = None,
    sampler: SamplerConfig | None = None,
    on_step: Callable[[], None] | None = None,
  ) -> UInt8[np.ndarray, "b *t h w 3"]:
    """Makes one batch; `on_step` is called after each denoising step."""
    material = material or Material()
    given = prepare(task, material, self.material_size)
    inputs = {"given": build.given_batch(self.config, task, given, len(batch))}
    if TASKS[task].from_clip:
      clips = _repeat(material.video, len(batch))
      inputs["start"] = Start(clips, material.strength)
    if TASKS[task].upscales:
      low = material.video if TASKS[task].clip else material.image
      inputs["low"] = _repeat(low, len(batch))
    pixels = self._sample(
      task, batch, seed, negative_prompt, on_step, sampler, **inputs
    )
    if given is not None:
      pixels = np.where(given.mask, given.pixels, pixels)
    return pixels

  def upscale(
    self,
    clips: UInt8[np.ndarray, "b *t h w 3"],
    batch: Sequence[Request],
    *,
    seed: int,
    negative_prompt: str = "",
    on_step: Callable[[], None] | None = None,
  ) -> UInt8[np.ndarray, "b *t high_h high_w 3"]:
    """Enlarges a batch of this model's clips or images with its upscaler.

    Args:
      clips: what `run` made.
      batch: the requests it was made of.
      seed: of the noise.
      negative_prompt: what guidance leads away from.
      on_step: called after each denoising step.

    Raises:
      UserError: the model has no upscaler.
    """
    task = "upscale" if clips.ndim > 4 else "upscale_image"
    return self.for_task(task)._sample(
      task, batch, seed, negative_prompt, on_step, low=clips
    )

  def _sample(
    self,
    task: str,
    batch: Sequence[Request],
    seed: int,
    negative_prompt: str,
    on_step: Callable[[], None] | None,
    sampler: SamplerConfig | None = None,
    **inputs: Any,
  ) -> UInt8[np.ndarray, "b *t h w 3"]:
    """One batch of the generator, whose `inputs` are beside text and noise."""
    text, negative = self._texts(batch, negative_prompt)
    x = self.generator(task, sampler)(
      self._task_params(task, sampler),
      text,
      negative,
      sample_keys(seed, [r.sample_id for r in batch]),
      on_step,
      **inputs,
    )
    return media.to_uint8(x)

  def compile(
    self,
    batch_size: int = 1,
    task: str = "text_to_video",
    sampler: SamplerConfig | None = None,
  ) -> None:
    """Compiles what `run` needs for batches of this size."""
    text, negative = self._texts([Request("", 0)] * batch_size, "")
    generator = self.generator(task, sampler)
    given = build.given_batch(self.config, task, None, batch_size)
    low = None
    if TASKS[task].upscales:
      size = self.material_size[0 if TASKS[task].clip else 1 :]
      low = np.zeros((batch_size, *size, 3), np.uint8)
    params = self._task_params(task, sampler)
    generator.compile(params, text, negative, given, low)

  def for_task(self, task: str) -> "Lumiere":
    """The model that does a task: this one, or its conditional one.

    Raises:
      UserError: an unknown task, or there are no weights for it.
    """
    if find_task(task).upscales:
      return self._for_upscaling()
    if not TASKS[task].masked:
      return self
    if self.config.condition.kind == "mask":
      return self
    if self._conditional is None:
      self._conditional = self._beside(conditional_config(self.config, task))
    return self._conditional

  def _for_upscaling(self) -> "Lumiere":
    if self.config.condition.kind == "low_res":
      return self
    if self._upscaler is None:
      with told_as("sampler", "upscaler_sampler"):
        self._upscaler = self._beside(upscaler_config(self.config))
    return self._upscaler

  def _beside(self, config: Config) -> "Lumiere":
    """Another model, which shares the text encoder if it has the same."""
    same = config.text == self.config.text
    return Lumiere.from_config(config, self._encoder if same else None)

  @property
  def material_size(self) -> Size:
    """Frames, height and width of what it is given."""
    return build.material_size(self.config)

  @property
  def clip_size(self) -> Size:
    """Frames, height and width of its clips."""
    return build.clip_size(self.config)

  def segment_borders(self) -> list[int]:
    """Pairs (i, i + 1) of frames that are not of the same segments."""
    windows = place_windows(self.clip_size, self.config.windows)
    starts = sorted({int(s) for s in windows.starts[:, 0]})
    return segment_borders(self.clip_size.t, starts, windows.size[0])

  def generator(
    self, task: str, sampler: SamplerConfig | None = None
  ) -> Generator:
    """The sampling program of a task; all tasks that make clips share one.

    Raises:
      UserError: an unknown task, or one that the model is not for, or the
        sampler's guide does not fit.
    """
    build.check_task(self.config, task)
    sampler = sampler or self.config.sampler
    key = (TASKS[task].clip, sampler)
    if key not in self._generators:
      self._generators[key] = build.generator(
        self.config,
        task,
        sampler,
        self._mesh,
        guide_config(self.config, sampler),
      )
    return self._generators[key]

  def with_style(self, style: str, alpha: float) -> "Lumiere":
    """This model drawn towards a style (section 4.1); shares its programs.

    Args:
      style: name of a shipped style of these weights, or a weights folder.
      alpha: how far, 0 to 1.

    Raises:
      UserError: no such style, it is of another network, or this model has one
        already.
    """
    if self.config.style:
      raise UserError(f"the model has style={self.config.style!r} already")
    other = copy.copy(self)
    other.config = replace(self.config, style=style, style_alpha=alpha)
    other._params = build.styled_params(other.config, self._params)
    other._conditional = None
    return other

  def num_steps(self, task: str, material: Material) -> int:
    """How many denoising steps `run` will make."""
    generator = self.generator(task)
    if not TASKS[task].from_clip:
      return generator.num_steps
    return generator.num_steps - generator.first_step(material.strength)

  def _task_params(self, task: str, sampler: SamplerConfig | None) -> PyTree:
    """Those that the task's generator takes; those of a guide load once."""
    params = build.task_params(self._params, task)
    sampler = sampler or self.config.sampler
    if not sampler.autoguided:
      return params
    name = sampler.guide
    if name not in self._guides:
      guide = guide_config(self.config, sampler)
      self._guides[name], _ = build.load_params(name, guide.model, self._mesh)
    return WithGuide(params, build.task_params(self._guides[name], task))

  def _texts(
    self, batch: Sequence[Request], negative_prompt: str
  ) -> tuple[Text, Text]:
    for prompt in {*(r.prompt for r in batch), negative_prompt}:
      if count := self._encoder.read_tokens(prompt):
        warnings.warn(
          f"only the first {count} tokens of {prompt!r} are read", stacklevel=3
        )
    text = Text(*self._encoder.encode([r.prompt for r in batch]))
    return text, Text(*self._encoder.encode([negative_prompt]))


def _repeat(x: np.ndarray, count: int) -> np.ndarray:
  return np.broadcast_to(x, (count, *x.shape))
