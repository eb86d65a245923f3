# SPDX-License-Identifier: Apache-2.0
"""The diffusion process: schedule, prediction and sampler."""

from dataclasses import dataclass, field

from lumiere_jax.config.check import check, choice


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
  """The noise schedule of a discrete-time diffusion.

  Attributes:
    name: "cosine" (squaredcos_cap_v2) or "linear".
    num_train_timesteps: length T of the schedule.
    beta_start: first beta of the linear schedule.
    beta_end: its last beta.
    logsnr_shift: added to log-SNR at every step; 2 log(64 / size_px) keeps a
      64-pixel schedule's noise per area (simple diffusion, arXiv 2301.11093).
    zero_terminal_snr: rescales so that the last step is pure noise (arXiv
      2305.08891); impossible with eps prediction.
  """

  name: str = "cosine"
  num_train_timesteps: int = 1000
  beta_start: float = 1e-4
  beta_end: float = 0.02
  logsnr_shift: float = 0.0
  zero_terminal_snr: bool = False

  def __post_init__(self):
    choice(self.name, ("cosine", "linear"), "diffusion.schedule.name")
    check(
      self.num_train_timesteps > 1,
      f"diffusion.schedule.num_train_timesteps={self.num_train_timesteps} "
      "must be > 1",
    )
    check(
      0 < self.beta_start < self.beta_end < 1,
      f"diffusion.schedule: 0 < beta_start={self.beta_start} < "
      f"beta_end={self.beta_end} < 1 does not hold",
    )


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
  """What the network predicts and how it is scored.

  Attributes:
    schedule: the noise schedule.
    prediction: "eps", "x0" or "v" (arXiv 2202.00512).
    variance: "fixed_small" (posterior), "fixed_large" (beta) or "learned"
      (interpolation in log space between both; out_channels doubles).
    weighting: of the squared error: "uniform" in what the network predicts,
      "min_snr" (arXiv 2303.09556), or "v": min(1 / sigma^2, cap) on the error
      of x0, which up to the cap is the uniform loss of v.
    min_snr_gamma: gamma of "min_snr".
    weighting_cap: cap of "v"; JiT's is 400 (arXiv 2511.13720).
    vlb_weight: weight of the variational bound that trains learned variance.
    timestep_distribution: of training: "uniform", or "logit_normal":
      log(sigma / alpha) ~ Normal(mean, std^2). In the time of flow matching
      t / (1 - t) is alpha / sigma, so this is the logit-normal of arXiv
      2403.03206, section 3.1, with the sign of the mean turned: JiT's
      sigmoid(Normal(-0.8, 0.8^2)) (arXiv 2511.13720) has the mean +0.8 here.
    timestep_mean: mean of "logit_normal".
    timestep_std: its standard deviation.
    timestep_shift: training draws timesteps whose sigma / alpha is this many
      times that of the distribution's (arXiv 2403.03206, section 5.3.2). Many
      frames show the same thing, so what a clip shows, and how it moves, is
      decided at higher noise than in an image. Unlike schedule.logsnr_shift it
      leaves the noise at each t, which frozen layers have learnt, as it is.
  """

  schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
  prediction: str = "v"
  variance: str = "fixed_small"
  weighting: str = "uniform"
  min_snr_gamma: float = 5.0
  weighting_cap: float = 400.0
  vlb_weight: float = 1e-3
  timestep_distribution: str = "uniform"
  timestep_mean: float = 0.8
  timestep_std: float = 0.8
  timestep_shift: float = 1.0

  def __post_init__(self):
    choice(self.prediction, ("eps", "x0", "v"), "diffusion.prediction")
    choice(
      self.variance,
      ("fixed_small", "fixed_large", "learned"),
      "diffusion.variance",
    )
    choice(self.weighting, ("uniform", "min_snr", "v"), "diffusion.weighting")
    check(
      self.weighting_cap > 0,
      f"diffusion.weighting_cap={self.weighting_cap} must be > 0",
    )
    choice(
      self.timestep_distribution,
      ("uniform", "logit_normal"),
      "diffusion.timestep_distribution",
    )
    check(
      self.timestep_std > 0,
      f"diffusion.timestep_std={self.timestep_std} must be > 0",
    )
    check(
      self.timestep_shift > 0,
      f"diffusion.timestep_shift={self.timestep_shift} must be > 0",
    )
    check(
      not (self.schedule.zero_terminal_snr and self.prediction == "eps"),
      "diffusion.schedule.zero_terminal_snr=True cannot be used with "
      "diffusion.prediction='eps': pure noise tells nothing of x0; use 'v'",
    )


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
  """How a clip is sampled.

  Attributes:
    name: "ddpm" (ancestral), "ddim" or "dpmpp_2m" (DPM-Solver++(2M)).
    steps: denoising steps.
    eta: stochasticity of DDIM; 0 is deterministic, 1 is DDPM.
    spacing: "leading", "trailing" or "linspace" timesteps (arXiv 2305.08891).
    timestep_shift: moves them to where sigma / alpha is this many times as
      large; above 1, more of the steps are spent at high noise.
    guidance: classifier-free guidance scale; 1 is none and costs one network
      call a step instead of a double batch.
    guidance_rescale: phi of arXiv 2305.08891, section 3.4.
    guidance_interval: between which shares of the schedule, 0 the clean end and
      1 pure noise, there is guidance (arXiv 2404.07724); steps outside of it
      cost what guidance 1 does.
    guidance_every: of the steps with guidance every which-th computes it; those
      in between take the last difference to the unconditional output again and
      cost what guidance 1 does. 1 is exact.
    guide: weights of a worse version of the network, an earlier snapshot or a
      smaller one, whose output steps are pushed away from (autoguidance, arXiv
      2406.02507): a folder, or the name of shipped ones.
    guide_scale: how far, 1 or more, on top of `guidance`; 1 is not at all, and
      loads nothing. It costs one call of the guide in each step that
      guidance_interval has, and goes with neither guidance_every nor
      deep_every.
    deep_every: every which-th step, from the first, runs all of the network;
      those in between take from the last one what its coarse levels have said
      (arXiv 2312.00858). 1 is exact.
    deep_level: the finest of those levels, 1 or more; 0 is the finest of all.
    low_res_level: timestep that super-resolution noises its low-resolution clip
      to (noise conditioning augmentation); 0 is the least.
    detail_floor: how far super-resolution moves every predicted clean clip
      towards its enlarged low-resolution clip, so that faint details vanish; of
      pixels in [-1, 1]: 1 / 127.5 is a grey level.
    known_low_res: makes the means of blocks of every predicted clean clip the
      pixels of the low-resolution clip, as training's are.
    known_pixels: puts what is given of a clip into every predicted clean clip,
      not only into the finished one.
    threshold: "none", "static" (clip to [-1, 1]) or "dynamic" (Imagen).
    threshold_quantile: quantile of |x0| of dynamic thresholding.
    threshold_max: largest value x0 is divided by.
  """

  name: str = "dpmpp_2m"
  steps: int = 12
  eta: float = 0.0
  spacing: str = "trailing"
  timestep_shift: float = 1.0
  guidance: float = 4.0
  guidance_rescale: float = 0.0
  guidance_interval: tuple[float, float] = (0.0, 1.0)
  guidance_every: int = 1
  guide: str = ""
  guide_scale: float = 1.0
  deep_every: int = 1
  deep_level: int = 1
  low_res_level: int = 0
  detail_floor: float = 0.0
  known_low_res: bool = False
  known_pixels: bool = False
  threshold: str = "static"
  threshold_quantile: float = 0.95
  threshold_max: float = 1.5

  def __post_init__(self):
    choice(self.name, ("ddpm", "ddim", "dpmpp_2m"), "sampler.name")
    choice(self.spacing, ("leading", "trailing", "linspace"), "sampler.spacing")
    choice(self.threshold, ("none", "static", "dynamic"), "sampler.threshold")
    check(self.steps > 0, f"sampler.steps={self.steps} must be > 0")
    check(
      self.low_res_level >= 0,
      f"sampler.low_res_level={self.low_res_level} must be >= 0",
    )
    check(
      0 <= self.detail_floor < 1,
      f"sampler.detail_floor={self.detail_floor} must be in [0, 1)",
    )
    check(self.eta >= 0, f"sampler.eta={self.eta} must be >= 0")
    check(
      self.timestep_shift > 0,
      f"sampler.timestep_shift={self.timestep_shift} must be > 0",
    )
    check(self.guidance >= 0, f"sampler.guidance={self.guidance} must be >= 0")
    check(
      0 <= self.guidance_rescale <= 1,
      f"sampler.guidance_rescale={self.guidance_rescale} must be in [0, 1]",
    )
    low, high = self.guidance_interval
    check(
      0 <= low < high <= 1,
      f"sampler.guidance_interval={self.guidance_interval} must be two shares "
      "in [0, 1], the lower first",
    )
    for name in ("guidance_every", "deep_every", "deep_level"):
      value = getattr(self, name)
      check(value >= 1, f"sampler.{name}={value} must be >= 1")
    self._check_guide()
    check(
      0 < self.threshold_quantile <= 1,
      f"sampler.threshold_quantile={self.threshold_quantile} must be in (0, 1]",
    )
    check(
      self.threshold_max >= 1,
      f"sampler.threshold_max={self.threshold_max} must be >= 1",
    )

  def _check_guide(self) -> None:
    what = f"sampler.guide_scale={self.guide_scale}"
    check(self.guide_scale >= 1, f"{what} must be >= 1")
    check(
      not self.autoguided or self.guide != "",
      f"{what} needs sampler.guide, the weights to push away from",
    )
    for name in ("guidance_every", "deep_every"):
      value = getattr(self, name)
      check(
        not self.autoguided or value == 1,
        f"{what} does not go with sampler.{name}={value}: one of them must be "
        "1",
      )

  @property
  def autoguided(self) -> bool:
    """Whether steps are pushed away from what `guide` predicts."""
    return self.guide_scale != 1.0


@dataclass(frozen=True, kw_only=True)
class WindowsConfig:
  """Windows of MultiDiffusion (section 3.2), for networks of short segments.

  Attributes:
    frames: of a segment; 0 is the whole clip.
    overlap: frames that neighbouring segments share.
    tile_px: height and width of a tile; 0 is the whole frame.
    tile_overlap_px: pixels that neighbouring tiles share.
    weights: of a window's positions in the merge: "uniform" (the paper's) or
      "triangular", which trusts its middle most.
    per_call: windows that the network sees at once; more need more memory.
    devices: over how many devices the windows are shared out.
  """

  frames: int = 0
  overlap: int = 2
  tile_px: int = 0
  tile_overlap_px: int = 0
  weights: str = "uniform"
  per_call: int = 1
  devices: int = 1

  def __post_init__(self):
    choice(self.weights, ("uniform", "triangular"), "windows.weights")
    for name, size, shared in (
      ("frames", "overlap", self.overlap),
      ("tile_px", "tile_overlap_px", self.tile_overlap_px),
    ):
      whole = getattr(self, name)
      check(whole >= 0, f"windows.{name}={whole} must be >= 0")
      check(
        shared >= 0 and (not whole or shared < whole),
        f"windows.{size}={shared} must be in 0..{max(whole - 1, 0)}",
      )
    for name in ("per_call", "devices"):
      count = getattr(self, name)
      check(count > 0, f"windows.{name}={count} must be > 0")
