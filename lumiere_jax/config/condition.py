# SPDX-License-Identifier: Apache-2.0
"""What the network is given beside the noisy clip."""

from dataclasses import dataclass, field

from lumiere_jax.config.check import check, choice
from lumiere_jax.config.process import ScheduleConfig

_CHANNELS = {"none": 0, "low_res": 3}


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
  """Channels that are concatenated to the noisy clip.

  Attributes:
    kind: "none", or "low_res": the clip at a lower resolution, enlarged and
      noised to a level that the network is told (noise conditioning
      augmentation, arXiv 2106.15282, as in Imagen).
    scale: how many times wider and higher the clip is than the one given.
    align_corners: whether enlarging puts the outer pixels on the outer pixels,
      as diffusers' IF pipelines do, rather than edges on edges.
    schedule: what a noise level means.
    max_level: the highest level that training draws; 0 is the least noise.
  """

  kind: str = "none"
  scale: int = 4
  align_corners: bool = False
  schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
  max_level: int = 999

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
