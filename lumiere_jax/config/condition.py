# SPDX-License-Identifier: Apache-2.0
"""What the network is given beside the noisy clip."""

from dataclasses import asdict, dataclass, field

from lumiere_jax.config.check import check, choice
from lumiere_jax.config.process import ScheduleConfig

_CHANNELS = {"none": 0, "low_res": 3, "mask": 4}


@dataclass(frozen=True, kw_only=True)
class MixtureConfig:
  """How often training with masks draws each task: weights of any sum.

  Attributes:
    text_to_video: nothing is given.
    image_to_video: the first frame is.
    first_last: the first and the last frame are.
    inpaint: all but a box or a blob is.
    outpaint: a box is.
    cinemagraph: the first frame is, and of the others all but a region.
    extend: some of the first frames are.
  """

  text_to_video: float = 0.1
  image_to_video: float = 0.3
  first_last: float = 0.1
  inpaint: float = 0.2
  outpaint: float = 0.1
  cinemagraph: float = 0.1
  extend: float = 0.1

  def __post_init__(self):
    weights = asdict(self)
    for name, weight in weights.items():
      check(weight >= 0, f"condition.mixture.{name}={weight} must be >= 0")
    check(sum(weights.values()) > 0, "condition.mixture: all weights are 0")


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
  """Channels that are concatenated to the noisy clip.

  Attributes:
    kind: "none"; "low_res", the clip at a lower resolution, enlarged and
      noised to a level that the network is told (noise conditioning
      augmentation, arXiv 2106.15282, as in Imagen); "mask", what is given of
      the clip and the mask that tells where (section 4.2).
    scale: how many times wider and higher the clip is than the one given.
    align_corners: whether enlarging puts the outer pixels on the outer pixels,
      as diffusers' IF pipelines do, rather than edges on edges.
    schedule: what a noise level means.
    max_level: the highest level that training draws; 0 is the least noise.
    mixture: the tasks that training draws masks of.
  """

  kind: str = "none"
  scale: int = 4
  align_corners: bool = False
  schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
  max_level: int = 999
  mixture: MixtureConfig = field(default_factory=MixtureConfig)

  def __post_init__(self):
    choice(self.kind, tuple(_CHANNELS), "condition.kind")
    check(self.scale > 1, f"condition.scale={self.scale} must be > 1")
    last = self.schedule.num_train_timesteps - 1
    check(
      0 <= self.max_level <= last,
      f"condition.max_level={self.max_level} must be in 0..{last}",
    )

  @property
  def channels(self) -> int:
    """How many are concatenated."""
    return _CHANNELS[self.kind]
