# SPDX-License-Identifier: Apache-2.0
"""What a model is trained on."""

from dataclasses import dataclass, fields

from lumiere_jax.config.check import check, choice

# A data set of data.write, shards of clips of data.write, a folder of videos
# and captions, UCF-101 as it is distributed, and scenes drawn from a sprite
# pack.
KINDS = ("built", "shards", "folder", "ucf101", "sprites")
# Those that have the labels of emoji_motion.
LABELLED = ("built", "sprites")
MEDIA = ("video", "image", "both")
STARTS = ("random", "begin", "middle")
# The middle of the frame, any part of it, all of it between black bars, or all
# of it in other proportions.
CROPS = ("center", "random", "pad", "stretch")


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
  """One of several sources; its fields are as those of `DataConfig`.

  Attributes:
    kind: one of KINDS.
    name: of a built data set.
    data_dir: the folder.
    config: of a built data set; of sprites, the selection of objects.
    split: the part to train on.
    captions: file of a folder.
    media: what is taken of a folder.
    weight: how often it is drawn from, beside the weights of the others.
  """

  kind: str = "built"
  name: str = "emoji_motion"
  data_dir: str = "data"
  config: str = "demo32"
  split: str = "train"
  captions: str = ""
  media: str = "video"
  weight: float = 1.0

  def __post_init__(self):
    _check_kind(self, "data.sources[]")
    check(
      0 < self.weight < float("inf"),
      f"data.sources[].weight={self.weight} must be > 0",
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
  """The clips a model is trained on and makes.

  Attributes:
    kind: what lies in data_dir, one of KINDS.
    name: of a built data set; "emoji_motion" or "ucf101".
    data_dir: the folder.
    config: of a built data set, its builder config, which fixes what it holds;
      of sprites, the selection of objects ("world").
    split: the part to train on, where there are parts.
    captions: of a folder, its CSV or JSONL file; "" is the only such file in
      it, or a .txt beside each video.
    media: what is taken of a folder, one of MEDIA.
    sources: several of these together; then the seven fields above are of no
      use.
    num_frames: frames of a clip.
    fps: frames a second.
    size_px: height and width of a frame.
    segment_frames: frames of the segments, drawn anywhere in a clip, that
      training sees; 0 is the whole clip.
    crop_px: height and width of the squares, drawn anywhere in a frame, that
      training sees; 0 is the whole frame.
    motion_caption_rate: share of stills in stage 1 that carry the clip's whole
      caption rather than the one without movement.
    focus: movements that training draws more often: those that come hard.
    focus_share: share of the examples that `focus`, if any, gets.
    num_workers: worker processes that read and decode; 0 reads in this one.
    start: where in a video a clip begins, one of STARTS.
    crop: what is done to a frame of another shape, one of CROPS.
    min_seconds: videos that are shorter are left out, of others too short for
      a clip the last frame is held; 0 leaves all out that are too short.
    max_seek_seconds: most that is decoded in vain before a clip; where
      keyframes lie farther apart, it begins earlier.
    max_broken_share: the run stops when more of what is drawn cannot be used;
      0 stops at the first.
  """

  kind: str = "built"
  name: str = "emoji_motion"
  data_dir: str = "data"
  config: str = "demo32"
  split: str = "train"
  captions: str = ""
  media: str = "video"
  sources: tuple[SourceConfig, ...] = ()
  num_frames: int = 80
  fps: int = 16
  size_px: int = 32
  segment_frames: int = 0
  crop_px: int = 0
  motion_caption_rate: float = 0.5
  focus: tuple[str, ...] = ()
  focus_share: float = 0.5
  num_workers: int = 0
  start: str = "random"
  crop: str = "center"
  min_seconds: float = 0.0
  max_seek_seconds: float = 20.0
  max_broken_share: float = 0.1

  @property
  def parts(self) -> tuple[SourceConfig, ...]:
    """The sources, or the only one."""
    only = {f.name: getattr(self, f.name, 1.0) for f in fields(SourceConfig)}
    return self.sources or (SourceConfig(**only),)

  @property
  def train_size(self) -> tuple[int, int, int]:
    """Frames, height and width of what training sees.

    Raises:
      UserError: the clips are smaller than that.
    """
    for name, value, most in (
      ("segment_frames", self.segment_frames, self.num_frames),
      ("crop_px", self.crop_px, self.size_px),
    ):
      check(value <= most, f"data.{name}={value} must be in 0..{most}")
    side = self.crop_px or self.size_px
    return (self.segment_frames or self.num_frames, side, side)

  def __post_init__(self):
    _check_kind(self, "data")
    choice(self.start, STARTS, "data.start")
    choice(self.crop, CROPS, "data.crop")
    check(
      not self.focus
      or (len(self.parts) == 1 and self.parts[0].kind in LABELLED),
      f"data.focus={self.focus!r} is for one source of data.kind="
      f"{' or '.join(map(repr, LABELLED))}",
    )
    for name in ("min_seconds", "max_seek_seconds", "num_workers"):
      value = getattr(self, name)
      check(value >= 0, f"data.{name}={value} must be >= 0")
    check(
      0 <= self.max_broken_share <= 1,
      f"data.max_broken_share={self.max_broken_share} must be in [0, 1]",
    )
    check(self.num_frames > 0, f"data.num_frames={self.num_frames} must be > 0")
    check(self.fps > 0, f"data.fps={self.fps} must be > 0")
    check(self.size_px > 0, f"data.size_px={self.size_px} must be > 0")
    for name in ("segment_frames", "crop_px"):
      value = getattr(self, name)
      check(value >= 0, f"data.{name}={value} must be >= 0")
    check(
      0 <= self.motion_caption_rate <= 1,
      f"data.motion_caption_rate={self.motion_caption_rate} must be in [0, 1]",
    )
    check(
      0 < self.focus_share < 1,
      f"data.focus_share={self.focus_share} must be between 0 and 1",
    )


def _check_kind(config: SourceConfig | DataConfig, group: str) -> None:
  choice(config.kind, KINDS, f"{group}.kind")
  choice(config.media, MEDIA, f"{group}.media")
