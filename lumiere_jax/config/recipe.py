# SPDX-License-Identifier: Apache-2.0
"""Text, training, and the whole configuration."""

from dataclasses import dataclass, field

from lumiere_jax.config.check import check, check_regex, choice
from lumiere_jax.config.condition import ConditionConfig
from lumiere_jax.config.data import DataConfig
from lumiere_jax.config.mesh import MeshConfig
from lumiere_jax.config.network import UNetConfig
from lumiere_jax.config.process import (
  DiffusionConfig,
  SamplerConfig,
  WindowsConfig,
)

# Relative; the mean of all parameters of a training has 1 / sqrt(12).
LONGEST_AVERAGE = 0.28
OPTIMIZERS = ("adamw", "muon", "lion", "adafactor", "schedule_free_adamw")


@dataclass(frozen=True, kw_only=True)
class TextConfig:
  """The frozen text encoder.

  Attributes:
    encoder: its kind: "minilm" is all-MiniLM-L6-v2 of its package; "t5" and
      "bert" are encoders that import_weights has written.
    weights: their folder.
    store: folder of captions that embed_text has encoded, in place of the
      encoder.
    dtype: compute type of the encoder.
    lower_case: captions are read in lower case, as IF reads them.
    max_tokens: captions are padded or cut to this length.
    batch_size: captions encoded in one call.
    cache_mb: memory for encoded captions, in 10^6 bytes. A data set whose
      captions fit has them encoded at the start, any other as they come.
  """

  encoder: str = "minilm"
  weights: str = ""
  store: str = ""
  dtype: str = "float32"
  lower_case: bool = False
  max_tokens: int = 24
  batch_size: int = 8
  cache_mb: int = 4000

  def __post_init__(self):
    for name in ("batch_size", "cache_mb"):
      value = getattr(self, name)
      check(value > 0, f"text.{name}={value} must be > 0")
    choice(self.encoder, ("minilm", "t5", "bert"), "text.encoder")
    choice(self.dtype, ("float32", "bfloat16"), "text.dtype")
    check(
      2 < self.max_tokens <= 512,
      f"text.max_tokens={self.max_tokens} must be in 3..512",
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
  """One training stage.

  Attributes:
    stage: "image" trains the whole text-to-image U-Net on stills, "video"
      only the temporal parameters of the STUNet on clips.
    trainable: regular expression, searched for in the paths of parameters,
      of those that train; "" is as the stage says, and with masks also the
      convolution that sees them.
    steps: optimizer steps.
    batch_size: examples of one optimizer step, over all devices.
    accumulate: micro-batches the step is split into.
    learning_rate: peak of the schedule.
    schedule: of the learning rate, after a linear warm-up: "cosine" ends with
      `steps`; "constant" needs no planned end.
    warmup_steps: steps of the warm-up.
    decay_steps: last steps of "constant", over which the rate falls; 0 none.
      It may change between restarts, as `steps` may, so that a training goes
      on from a checkpoint before its decay.
    final_learning_rate: fraction of the peak at the end of cosine or decay.
    optimizer: "adamw"; "muon", which orthogonalizes the updates of kernels
      (arXiv 2502.16982) and leaves the rest to Adam; "lion" (2302.06675);
      "adafactor" (1804.04235), with next to no memory; or
      "schedule_free_adamw" (2405.15682), whose averaged parameters are what is
      measured and shipped. A good learning rate of Muon and Adafactor is
      AdamW's, of Lion a third to a tenth of it.
    b1: first decay of Adam and Lion; of "schedule_free_adamw" the share of the
      average in where gradients are taken; Muon's is 0.95.
    b2: their second.
    weight_decay: decoupled, on kernels only.
    clip_norm: global norm the gradient is clipped to.
    ema_decay: decay of the average that is shipped; warmed up by step count.
    posthoc_ema: relative lengths of averages that are kept too, as (0.05, 0.1)
      (EDM2, arXiv 2312.02696, section 3). What is stored of them becomes
      averages of any length afterwards (`lumiere_jax.average_weights`).
    posthoc_every: steps between snapshots of these in WORKDIR/averages; the end
      has one too.
    caption_dropout: share of examples that see the empty caption.
    init_from: weights folder to start from ("" starts at random).
    init_temporal_from: where the temporal part comes from, if from elsewhere;
      "new" begins it as `model.temporal.init` says.
    weights_dtype: type of the weights that are written at the end.
    seed: of parameters, noise and data order.
    log_every: steps between lines of metrics.
    checkpoint_every: steps between checkpoints.
    keep_checkpoints: how many of the newest are kept.
    keep_every_hours: beside them, one of so many hours is kept; 0 none.
    keep_best: beside them, how many of the least loss since the one before.
    skip_grad_norm: a step whose gradient is so many times the average is
      skipped; 0 skips only what is not finite.
    max_skipped: so many skipped steps in a row lead back to the last
      checkpoint, and the second time to the end.
    watchdog_seconds: without progress for so long a run ends; 0 never.
    sample_every: steps between sample clips; 0 makes none.
    sample_prompts: what they show.
    eval_every: steps between measurements of the averaged weights' loss on
      clips that the data set holds back from training; 0 measures none.
    eval_clips: how many of them, always the same ones; of each a still in the
      image stage.
  """

  stage: str = "image"
  trainable: str = ""
  steps: int = 1000
  batch_size: int = 64
  accumulate: int = 1
  learning_rate: float = 3e-4
  schedule: str = "cosine"
  warmup_steps: int = 100
  decay_steps: int = 0
  final_learning_rate: float = 0.1
  optimizer: str = "adamw"
  b1: float = 0.9
  b2: float = 0.99
  weight_decay: float = 0.0
  clip_norm: float = 1.0
  ema_decay: float = 0.999
  posthoc_ema: tuple[float, ...] = ()
  posthoc_every: int = 500
  caption_dropout: float = 0.1
  init_from: str = ""
  init_temporal_from: str = ""
  weights_dtype: str = "float32"
  seed: int = 0
  log_every: int = 50
  checkpoint_every: int = 500
  keep_checkpoints: int = 2
  keep_every_hours: float = 0.0
  keep_best: int = 0
  skip_grad_norm: float = 0.0
  max_skipped: int = 10
  watchdog_seconds: float = 3600.0
  sample_every: int = 0
  sample_prompts: tuple[str, ...] = ()
  eval_every: int = 0
  eval_clips: int = 64

  def __post_init__(self):
    choice(self.stage, ("image", "video"), "train.stage")
    check_regex(self.trainable, "train.trainable")
    choice(
      self.weights_dtype,
      ("float32", "float16", "bfloat16"),
      "train.weights_dtype",
    )
    for name in (
      "steps",
      "batch_size",
      "accumulate",
      "log_every",
      "checkpoint_every",
      "keep_checkpoints",
      "max_skipped",
      "posthoc_every",
      "eval_clips",
    ):
      check(
        getattr(self, name) > 0,
        f"train.{name}={getattr(self, name)} must be > 0",
      )
    for name in (
      "keep_every_hours",
      "keep_best",
      "skip_grad_norm",
      "watchdog_seconds",
      "decay_steps",
      "sample_every",
      "eval_every",
    ):
      value = getattr(self, name)
      check(value >= 0, f"train.{name}={value} must be >= 0")
    check(
      self.batch_size % self.accumulate == 0,
      f"train.accumulate={self.accumulate} must divide "
      f"train.batch_size={self.batch_size}",
    )
    check(
      not self.sample_every or len(self.sample_prompts) > 0,
      f"train.sample_every={self.sample_every} needs train.sample_prompts",
    )
    check(0 <= self.seed < 2**32, f"train.seed={self.seed} not in 0..2^32-1")
    check(self.clip_norm > 0, f"train.clip_norm={self.clip_norm} must be > 0")
    for name in ("caption_dropout", "ema_decay", "b1", "b2"):
      value = getattr(self, name)
      check(0 <= value < 1, f"train.{name}={value} must be in [0, 1)")
    self._check_optimizer()

  def _check_optimizer(self) -> None:
    """How steps are made of gradients, and what is averaged."""
    choice(self.optimizer, OPTIMIZERS, "train.optimizer")
    choice(self.schedule, ("cosine", "constant"), "train.schedule")
    check(
      not self.decay_steps or self.schedule == "constant",
      f"train.decay_steps={self.decay_steps} needs train.schedule='constant'",
    )
    check(
      self.b1 > 0 or self.optimizer != "schedule_free_adamw",
      f"train.b1={self.b1} must be > 0 with train.optimizer={self.optimizer!r}",
    )
    lengths = self.posthoc_ema
    check(
      all(0 < x <= LONGEST_AVERAGE for x in lengths)
      and len(set(lengths)) == len(lengths),
      f"train.posthoc_ema={lengths} must be different lengths in "
      f"(0, {LONGEST_AVERAGE}]",
    )


@dataclass(frozen=True, kw_only=True)
class Config:
  """Everything about one model or recipe.

  Attributes:
    name: of the model, used in file names.
    weights: weights folder to sample with; a bare name is a shipped one.
    conditional: those for tasks in which part of the clip is given.
    upscaler: those that enlarge what is made; "" leaves it as it is.
    upscaler_sampler: how they sample, other than their own config says.
    upscaler_windows: what they see at a time, likewise.
    style: weights that the spatial part is drawn towards (section 4.1): a
      folder, or the name of a shipped style of these weights.
    style_alpha: how far, 0 to 1; the paper takes 0.5 to 1.
    model: the network.
    condition: what it is given beside the noisy clip.
    diffusion: what it predicts.
    sampler: how a clip is made.
    windows: the parts of a clip that the network sees at a time.
    text: the text encoder.
    data: the clips.
    train: the recipe.
    mesh: the devices.
  """

  name: str = "lumiere"
  weights: str = ""
  conditional: str = ""
  upscaler: str = ""
  upscaler_sampler: SamplerConfig | None = None
  upscaler_windows: WindowsConfig | None = None
  style: str = ""
  style_alpha: float = 0.7
  model: UNetConfig = field(default_factory=UNetConfig)
  condition: ConditionConfig = field(default_factory=ConditionConfig)
  diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
  sampler: SamplerConfig = field(default_factory=SamplerConfig)
  windows: WindowsConfig = field(default_factory=WindowsConfig)
  text: TextConfig = field(default_factory=TextConfig)
  data: DataConfig = field(default_factory=DataConfig)
  train: TrainConfig = field(default_factory=TrainConfig)
  mesh: MeshConfig = field(default_factory=MeshConfig)

  def __post_init__(self):
    self._check_sizes()
    self._check_condition()
    m = self.model
    check(
      self.windows.devices == 1
      or self.mesh.data * self.mesh.fsdp * self.mesh.frames <= 1,
      f"windows.devices={self.windows.devices} shares out windows, and mesh.* "
      "examples and frames: only one of them can be more than 1",
    )
    check(
      (self.train.stage == "video") == (m.temporal is not None),
      f"train.stage={self.train.stage!r} does not fit model.temporal="
      f"{m.temporal}: images train the model without temporal part",
    )
    check(
      0 <= self.style_alpha <= 1,
      f"style_alpha={self.style_alpha} must be in [0, 1]",
    )
    learned = self.diffusion.variance == "learned"
    check(
      m.out_channels == (6 if learned else 3),
      f"model.out_channels={m.out_channels} must be {6 if learned else 3} with "
      f"diffusion.variance={self.diffusion.variance!r}",
    )

  def _check_sizes(self) -> None:
    """Clips and windows that the network can halve as often as it does."""
    m, d = self.model, self.data
    for name in ("size_px", "crop_px"):
      value = getattr(d, name)
      check(
        value % m.spatial_stride == 0,
        f"data.{name}={value} must be a multiple of {m.spatial_stride} "
        f"(model.patch_size={m.patch_size} and {m.num_levels} levels)",
      )
    for name in ("num_frames", "segment_frames"):
      value = getattr(d, name)
      check(
        value % m.temporal_stride == 0,
        f"data.{name}={value} must be a multiple of the temporal "
        f"stride {m.temporal_stride} ({m.num_levels} levels)",
      )
    for name, stride in (
      ("tile_px", m.spatial_stride),
      ("frames", m.temporal_stride),
    ):
      value = getattr(self.windows, name)
      check(
        value % stride == 0,
        f"windows.{name}={value} must be a multiple of {stride}",
      )

  def _check_condition(self) -> None:
    """What the network is given beside noise."""
    m, d = self.model, self.data
    c = self.condition
    check(
      m.in_channels == 3 + c.channels,
      f"model.in_channels={m.in_channels} must be {3 + c.channels} with "
      f"condition.kind={c.kind!r}",
    )
    level = "timestep" if c.kind == "low_res" else "none"
    check(
      m.class_embed_type == level,
      f"model.class_embed_type={m.class_embed_type!r} must be {level!r} with "
      f"condition.kind={c.kind!r}",
    )
    check(
      c.kind != "low_res" or not (d.size_px % c.scale or d.crop_px % c.scale),
      f"data.size_px={d.size_px} and data.crop_px={d.crop_px} must be "
      f"multiples of condition.scale={c.scale}",
    )
    level, most = self.sampler.low_res_level, c.max_level
    check(
      c.kind != "low_res" or level <= most,
      f"sampler.low_res_level={level} must be in 0..{most}, the levels that "
      "the network was trained with (condition.max_level)",
    )
    check(
      c.kind != "mask" or m.temporal is not None,
      "condition.kind='mask' needs model.temporal: masks are of clips",
    )
