# SPDX-License-Identifier: Apache-2.0
"""What a zero-shot evaluation does, as a configuration of its own."""

from dataclasses import dataclass

from lumiere_jax.errors import UserError
from lumiere_jax.scoring import zero_shot


@dataclass(frozen=True, kw_only=True)
class Protocol:
  """Which clips are made and how they are scored.

  Attributes:
    clips: how many; 10,235 are the paper's.
    frames: the first ones of each clip, which are scored.
    seed: of the clips' order and noise, and of what scores draw.
    batch: clips that a process makes at once.
    i3d: weights folder of the network whose Frechet distance is measured: FVD
      of I3D, the others' have their own names; "" leaves it out.
    c3d: weights folder of C3D trained on UCF-101, for the Inception Score; ""
      leaves it out.
    real: folder of UCF-101's videos; "" if only generated clips are scored.
    reference: what the real clips are called.
    real_fps: frames a second that real clips are brought to; 0 keeps theirs.
    work: folder of what is kept until all is done.
    keep_clips: whether generated clips are kept there, whole.
  """

  clips: int = zero_shot.CLIPS
  frames: int = zero_shot.FRAMES
  seed: int = 0
  batch: int = 1
  i3d: str = ""
  c3d: str = ""
  real: str = ""
  reference: str = "UCF-101"
  real_fps: float = 0.0
  work: str = "runs/ucf101_eval"
  keep_clips: bool = False

  def __post_init__(self):
    for name, least in (("clips", 2), ("frames", 1), ("batch", 1)):
      if (value := getattr(self, name)) < least:
        raise UserError(f"protocol.{name}={value} must be >= {least}")
    if not 0 <= self.seed < 2**32:
      raise UserError(f"protocol.seed={self.seed} must be in 0..{2**32 - 1}")
    if not 0 <= self.real_fps < 1000:
      raise UserError(
        f"protocol.real_fps={self.real_fps} must be from 0 to below 1000"
      )
    if not self.work:
      raise UserError("protocol.work='' must name a folder to keep features in")

  def check_complete(self) -> None:
    """Passes a protocol that can be followed.

    Apart from what each field allows: those of a file wait for the command's.

    Raises:
      UserError: it would score nothing, or real clips are missing.
    """
    if not (self.i3d or self.c3d or self.keep_clips):
      raise UserError(
        "protocol.i3d and protocol.c3d are both empty, so that nothing would "
        "be scored: name weights folders that import_weights wrote, or set "
        "protocol.keep_clips=True to make clips only"
      )
    if self.i3d and not self.real:
      raise UserError(
        "protocol.real is empty: a Frechet distance needs a folder of "
        "UCF-101's videos"
      )

  @property
  def departures(self) -> list[str]:
    """What is not as the published numbers have it, as far as that is told."""
    wanted = {"clips": zero_shot.CLIPS, "frames": zero_shot.FRAMES}
    return [
      f"{name}={getattr(self, name)}, not {value}"
      for name, value in wanted.items()
      if getattr(self, name) != value
    ]


@dataclass(frozen=True, kw_only=True)
class ProtocolFile:
  """The part of a config file that is not a model's.

  Attributes:
    protocol: of the evaluation.
  """

  protocol: Protocol
