# SPDX-License-Identifier: Apache-2.0
"""What is measured of averaged weights while they train: samples, and a loss.

A part of the composition root: `training` is handed these.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lumiere_jax import build, feed, media, sharding
from lumiere_jax.compiling import compiler_options
from lumiere_jax.config import Config
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.plain import plain_measures
from lumiere_jax.inference.generate import Generator, Text
from lumiere_jax.inference.generate import batches as in_batches
from lumiere_jax.shapes import PyTree
from lumiere_jax.text.encoder import Encoder
from lumiere_jax.training.loop import Evaluator
from lumiere_jax.training.step import LossFn, bucket_losses

# Of the timesteps and noise that held-out clips get, in every run the same.
_KEY = 0x0E7A1


def make(
  cfg: Config,
  encoder: Encoder,
  workdir: Path,
  mesh: Mesh,
  say: Callable[[str], None],
) -> list[tuple[int, Evaluator]]:
  """The evaluators that a config asks for, and how often each is called.

  Args:
    cfg: of the run.
    encoder: of its text.
    workdir: of the run; samples are written there.
    mesh: the devices.
    say: takes one line on what is measured.

  Raises:
    UserError: a prompt or a caption cannot be encoded, or the clips that the
      data hold back are not there.
  """
  made: list[tuple[int, Evaluator]] = []
  if cfg.train.sample_every:
    evaluator = Samples.of(cfg, encoder, workdir, mesh)
    made.append((cfg.train.sample_every, evaluator))
  if cfg.train.eval_every:
    held_out = HeldOutLoss.of(cfg, encoder, mesh)
    if held_out is None:
      say(
        f"train.eval_every={cfg.train.eval_every}: these data hold no clips "
        "back from training, so no loss is measured on such"
      )
    else:
      say(
        f"held out: the loss of {held_out.count} clips every "
        f"{cfg.train.eval_every} steps"
      )
      made.append((cfg.train.eval_every, held_out))
  return made


@dataclasses.dataclass(frozen=True)
class Samples:
  """Writes all sample prompts' frames on a sheet, and the clips.

  They are made without the sampler's guide, which would be a second network in
  memory. Yields the mean of `plain_measures` over the clips, where they are
  large enough for them. All processes make the clips, each with its devices'
  share; one measures and writes them.

  Attributes:
    cfg: of the run.
    encoder: of its text.
    generator: of stills in the image stage, else of clips.
    mesh: the devices.
    folder: gets step_STEP.png, and of clips step_STEP_NUMBER.webp.
    measured: whether the clips are measured.
  """

  cfg: Config
  encoder: Encoder
  generator: Generator
  mesh: Mesh
  folder: Path
  measured: bool

  @classmethod
  def of(
    cls, cfg: Config, encoder: Encoder, workdir: Path, mesh: Mesh
  ) -> "Samples":
    """That of a run.

    Raises:
      UserError: a prompt cannot be encoded.
    """
    sampler = dataclasses.replace(cfg.sampler, guide="", guide_scale=1.0)
    generator = build.generator(cfg, _task(cfg), sampler, mesh)
    # Now, so that a prompt that cannot be encoded ends no run half way.
    encoder.encode(cfg.train.sample_prompts)
    folder = workdir / "samples"
    return cls(cfg, encoder, generator, mesh, folder, _measured(cfg))

  def __call__(self, params: PyTree, step: int) -> Iterator[tuple[str, float]]:
    clips = self._sampled(params)
    if jax.process_index():
      return
    try:
      self._write(clips, step)
    except OSError as error:
      raise UserError(f"cannot write in {self.folder}: {error}") from error
    if not self.measured:
      return
    found = [plain_measures(clip, self.cfg.data.fps) for clip in clips.values()]
    for name in found[0]:
      yield f"samples/{name}", float(np.mean([one[name] for one in found]))

  def _sampled(self, params: PyTree) -> dict[str, np.ndarray]:
    """The clip of each prompt, uint8 (t, h, w, 3); t is 1 of images."""
    cfg, clips = self.cfg, {}
    count = sharding.batch_shares(self.mesh)
    given = build.given_batch(cfg, _task(cfg), None, count)
    negative = Text(*self.encoder.empty)
    for batch in in_batches(list(enumerate(cfg.train.sample_prompts)), count):
      text = Text(*self.encoder.encode([prompt for _, prompt in batch]))
      keys = sample_keys(cfg.train.seed, [i for i, _ in batch])
      made = self.generator(params, text, negative, keys, given=given)
      for (_, prompt), x in zip(batch, made, strict=True):
        pixels = media.to_uint8(x)
        clips[prompt] = pixels if pixels.ndim == 4 else pixels[None]
    return clips

  def _write(self, clips: Mapping[str, np.ndarray], step: int) -> None:
    cfg = self.cfg
    columns, scale = (1, 8) if cfg.train.stage == "image" else (10, 2)
    sheet = media.contact_sheet_many(clips, columns=columns, scale=scale)
    path = self.folder / f"step_{step:07d}.png"
    path.unlink(missing_ok=True)  # Of a run that died after this step.
    media.write_png(path, sheet)
    if cfg.train.stage == "video":
      for i, clip in enumerate(clips.values()):
        path = self.folder / f"step_{step:07d}_{i}.webp"
        path.unlink(missing_ok=True)
        media.write_webp(path, clip, cfg.data.fps)


def _task(cfg: Config) -> str:
  return "text_to_video" if cfg.train.stage == "video" else "text_to_image"


def _measured(cfg: Config) -> bool:
  """Whether there are plain measures of what is sampled."""
  if cfg.train.stage == "image":
    return False
  size = build.clip_size(cfg)
  some = np.zeros((min(size.t, 4), size.h, size.w, 3), np.uint8)
  try:
    plain_measures(some, cfg.data.fps)
  except UserError:
    return False
  return True


@dataclasses.dataclass(frozen=True)
class HeldOutLoss:
  """The loss of clips that the data hold back: mean, and by timestep quarter.

  `held_out/loss` is in the recipe's own units, `held_out/x0_mse` the squared
  error of the clean clip (pixels in [-1, 1]), by which recipes compare.

  Always the same clips with the same uniform timesteps and the same noise,
  whatever the run's seed, distribution of timesteps or shift, so that values of
  different steps and runs differ by the weights alone. Nothing is dropped,
  neither captions nor features. The clips are read each time, in batches of as
  many as a training step has in memory, and shared out as those are.

  Attributes:
    batches: read by position.
    losses: (params, placed batch, number of its first clip) -> losses, errors
      of x0 and timesteps of its clips, (b,) each, on all devices.
    count: clips that are measured.
    num_timesteps: T.
    batch_size: clips of a batch, over all devices.
    mesh: the devices.
    stand_in: this process's share of a batch, for one that cannot be read.
  """

  batches: feed.TextBatches
  losses: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
  count: int
  num_timesteps: int
  batch_size: int
  mesh: Mesh
  stand_in: Mapping[str, np.ndarray]

  @classmethod
  def of(
    cls, cfg: Config, encoder: Encoder, mesh: Mesh
  ) -> "HeldOutLoss | None":
    """That of a run; None if its data hold no clips back.

    Raises:
      UserError: they should, and are not there, or a caption cannot be encoded.
    """
    size = cfg.train.batch_size // cfg.train.accumulate
    rows = sharding.local_rows(mesh, size).tolist()
    held_out = feed.held_out_batches(cfg, encoder, size, rows)
    if held_out is None:
      return None
    batches, number = held_out
    batch = batches.read(0)  # Now, so that a mistake ends no run half way.
    plain = dataclasses.replace(
      cfg,
      model=dataclasses.replace(cfg.model, dropout=0.0),
      train=dataclasses.replace(cfg.train, caption_dropout=0.0),
      diffusion=dataclasses.replace(
        cfg.diffusion, timestep_distribution="uniform", timestep_shift=1.0
      ),
    )
    loss = build.loss_fn(plain, encoder.empty, mesh)
    return cls(
      batches=batches,
      losses=_compiled(loss, size, mesh),
      count=min(cfg.train.eval_clips, number),
      num_timesteps=cfg.diffusion.schedule.num_train_timesteps,
      batch_size=size,
      mesh=mesh,
      stand_in=batch,
    )

  def __call__(self, params: PyTree, step: int) -> Iterator[tuple[str, float]]:
    del step
    found, failure = [], None
    for first in range(0, self.count, self.batch_size):
      batch, error = self._read(first // self.batch_size)
      failure = failure or error
      placed = sharding.place_batch(batch, self.mesh, self.batch_size)
      found.append(jax.device_get(self.losses(params, placed, first)))
    if failure:
      raise failure
    losses, x0_mse, t = (
      np.concatenate(x)[: self.count] for x in zip(*found, strict=True)
    )
    for name, values in (("loss", losses), ("x0_mse", x0_mse)):
      yield f"held_out/{name}", float(values.mean(dtype=np.float64))
      sums, counts = bucket_losses(
        jnp.asarray(values), jnp.asarray(t), self.num_timesteps
      )
      for quarter, (total, number) in enumerate(zip(sums, counts, strict=True)):
        if number:
          yield f"held_out/{name}_by_t/{quarter}", float(total / number)

  def _read(
    self, position: int
  ) -> tuple[dict[str, np.ndarray], UserError | None]:
    """A batch; if it cannot be read, another whose losses become no numbers.

    The other processes run the program, and this one has to take part.
    """
    try:
      batch, error = self.batches.read(position), None
    except UserError as caught:
      batch, error = dict(self.stand_in), caught
    weight = np.nan if error else 1.0
    rows = len(batch["pixels"])
    return {**batch, "weight": np.full(rows, weight, np.float32)}, error


def _compiled(loss: LossFn, batch_size: int, mesh: Mesh) -> Callable[..., Any]:
  """`HeldOutLoss.losses`, compiled when it is first called."""

  def losses(params, batch, first):
    numbers = first + jnp.arange(batch_size)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
      jax.random.key(_KEY), numbers
    )
    values, aux = loss(params, batch, keys)
    values, errors = (
      x.astype(jnp.float32) * batch["weight"] for x in (values, aux["x0_mse"])
    )
    return values, errors, aux["t"]

  return jax.jit(
    losses,
    out_shardings=sharding.replicated(mesh),
    compiler_options=compiler_options(mesh),
  )
