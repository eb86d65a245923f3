# SPDX-License-Identifier: Apache-2.0
"""The network's shape: the T2I U-Net in IF's form and what inflation adds."""

from dataclasses import dataclass

from lumiere_jax.config.check import check, choice

# From what takes most memory and least time to the opposite.
REMAT = ("none", "convs", "offload", "blocks")


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
  """What inflation adds to the text-to-image U-Net (section 3.1, Fig. 4).

  Attributes:
    kernel_size: taps of every temporal convolution (odd).
    resample: temporal down/up-sampling by 2 after every spatial one.
    init: "identity" (appendix B) or "he", the paper's ablation (Fig. 12), of
      the resampling convolutions.
    attention_layers: stacked temporal self-attention layers per inflation
      block at the coarsest level (Fig. 4c).
    attention_head_dim: width of their heads.
    conditioned: scales and shifts in the inflation blocks, frame by frame, by
      embeddings of noise level, text and frame number. Ours; Fig. 4 shows no
      such input. For small models trained on few clips.
  """

  kernel_size: int = 3
  resample: bool = True
  init: str = "identity"
  attention_layers: int = 2
  attention_head_dim: int = 64
  conditioned: bool = False

  def __post_init__(self):
    choice(self.init, ("identity", "he"), "model.temporal.init")
    check(
      self.kernel_size % 2 == 1 and self.kernel_size > 0,
      f"model.temporal.kernel_size={self.kernel_size} must be odd",
    )
    check(
      self.attention_layers > 0,
      f"model.temporal.attention_layers={self.attention_layers} must be > 0",
    )


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
  """The one U-Net, in DeepFloyd IF's form (fields as diffusers names them).

  Attributes:
    in_channels: channels of the noisy input and what is concatenated to it.
    out_channels: 3, or 6 with learned variance.
    block_out_channels: width of each level, finest first.
    layers_per_block: residual blocks of each level on the way down (one more
      on the way up); one number, or one per level.
    attention: which levels carry cross attention; one flag per level.
    attention_head_dim: width of an attention head.
    cross_attention_dim: width the text features are projected to.
    encoder_hid_dim: width of the text encoder's features.
    addition_embed_heads: heads of the attention pooling of the text.
    only_cross_attention: no keys and values from the image, per level.
    mid_block_only_cross_attention: the same for the middle block.
    cross_attention_norm: "group_norm" or "none", on the text features.
    norm_num_groups: groups of every group norm.
    norm_eps: its epsilon.
    act_fn: "gelu" or "silu".
    time_embedding_dim: width of the sum of the embeddings of time, noise level
      and pooled text; 0 is four times the finest level's.
    time_embedding_act_fn: activation of that sum, once for all blocks: "none",
      "gelu" or "silu".
    resnet_skip_time_act: no activation before a block's time projection.
    resnet_out_scale_factor: residual sums are divided by it.
    mid_block_scale_factor: the same in the middle block.
    class_embed_type: "none", or "timestep" for the noise level of an SSR net.
    dropout: rate inside the residual blocks.
    patch_size: space-to-depth before the first convolution, depth-to-space
      after the last (simple diffusion, arXiv 2301.11093).
    mask_text: what padding tokens are kept out of: "all" (attention, the norm
      before it and the pooled text), "attention" alone, as diffusers does
      when it is given a mask, or "none", IF's own form.
    dtype: compute type; "bfloat16" or "float32".
    param_dtype: type of the parameters.
    remat: what of a level's blocks the backward pass computes again: "none",
      "blocks" all of it, "convs" everything but the convolutions, "offload"
      the same, with the outputs of the convolutions kept in the host's memory.
    temporal: None is the text-to-image model, else the STUNet.
  """

  in_channels: int = 3
  out_channels: int = 3
  block_out_channels: tuple[int, ...] = (64, 128, 192)
  layers_per_block: int | tuple[int, ...] = 1
  attention: tuple[bool, ...] = (False, True, True)
  attention_head_dim: int = 64
  cross_attention_dim: int = 256
  encoder_hid_dim: int = 384
  addition_embed_heads: int = 4
  only_cross_attention: bool | tuple[bool, ...] = False
  mid_block_only_cross_attention: bool = False
  cross_attention_norm: str = "group_norm"
  norm_num_groups: int = 32
  norm_eps: float = 1e-5
  act_fn: str = "gelu"
  time_embedding_dim: int = 0
  time_embedding_act_fn: str = "none"
  resnet_skip_time_act: bool = False
  resnet_out_scale_factor: float = 1.0
  mid_block_scale_factor: float = 1.0
  class_embed_type: str = "none"
  dropout: float = 0.0
  patch_size: int = 1
  mask_text: str = "all"
  dtype: str = "float32"
  param_dtype: str = "float32"
  remat: str = "none"
  temporal: TemporalConfig | None = None

  def __post_init__(self):
    levels = len(self.block_out_channels)
    check(levels > 0, "model.block_out_channels is empty")
    check(
      len(self.attention) == levels,
      f"model.attention={self.attention} needs {levels} entries, one per entry"
      f" of model.block_out_channels={self.block_out_channels}",
    )
    for name in (
      "attention_head_dim",
      "addition_embed_heads",
      "norm_num_groups",
      "patch_size",
    ):
      value = getattr(self, name)
      check(value > 0, f"model.{name}={value} must be > 0")
    check(0 <= self.dropout < 1, f"model.dropout={self.dropout} not in [0, 1)")
    for name in ("layers_per_block", "only_cross_attention"):
      value = getattr(self, name)
      check(
        not isinstance(value, tuple) or len(value) == levels,
        f"model.{name}={value} needs one entry or {levels}",
      )
    for width in self.block_out_channels:
      check(
        width % self.norm_num_groups == 0,
        f"model.norm_num_groups={self.norm_num_groups} must divide each of "
        f"model.block_out_channels={self.block_out_channels}",
      )
    self._check_heads()
    check(
      self.encoder_hid_dim % self.addition_embed_heads == 0,
      f"model.addition_embed_heads={self.addition_embed_heads} must divide "
      f"model.encoder_hid_dim={self.encoder_hid_dim}",
    )
    for name, choices in (
      ("cross_attention_norm", ("group_norm", "none")),
      ("act_fn", ("gelu", "silu")),
      ("time_embedding_act_fn", ("none", "gelu", "silu")),
      ("class_embed_type", ("none", "timestep")),
      ("remat", REMAT),
      ("mask_text", ("all", "attention", "none")),
      ("dtype", ("float32", "bfloat16")),
      ("param_dtype", ("float32", "bfloat16")),
    ):
      choice(getattr(self, name), choices, f"model.{name}")
    check(
      self.time_embedding_dim >= 0,
      f"model.time_embedding_dim={self.time_embedding_dim} must be >= 0",
    )
    check(
      self.cross_attention_norm == "none" or self.cross_attention_dim % 32 == 0,
      f"model.cross_attention_dim={self.cross_attention_dim} must be a "
      "multiple of 32, the groups of model.cross_attention_norm='group_norm'",
    )

  def _check_heads(self) -> None:
    # The middle block, as wide as the coarsest level, always attends.
    flags = (*self.attention[:-1], True)
    for width, flag in zip(self.block_out_channels, flags, strict=True):
      check(
        not flag or width % self.attention_head_dim == 0,
        f"model.attention_head_dim={self.attention_head_dim} must divide the "
        f"width {width} of every level with attention and of the middle block",
      )
    if self.temporal is not None:
      head_dim, width = (
        self.temporal.attention_head_dim,
        self.block_out_channels[-1],
      )
      check(
        head_dim > 0 and width % head_dim == 0,
        f"model.temporal.attention_head_dim={head_dim} must divide the width "
        f"{width} of the coarsest level",
      )

  @property
  def num_levels(self) -> int:
    return len(self.block_out_channels)

  @property
  def layers(self) -> tuple[int, ...]:
    """Residual blocks on the way down, one number per level."""
    value = self.layers_per_block
    return value if isinstance(value, tuple) else (value,) * self.num_levels

  @property
  def emb_dim(self) -> int:
    """Width of the embeddings of time, noise level and pooled text."""
    return self.time_embedding_dim or 4 * self.block_out_channels[0]

  @property
  def only_cross(self) -> tuple[bool, ...]:
    """`only_cross_attention`, one flag per level."""
    value = self.only_cross_attention
    return value if isinstance(value, tuple) else (value,) * self.num_levels

  @property
  def spatial_stride(self) -> int:
    """Pixels (height and width) must be a multiple of it."""
    return self.patch_size * 2 ** (self.num_levels - 1)

  @property
  def temporal_stride(self) -> int:
    """Frames must be a multiple of it; 1 without temporal resampling."""
    if self.temporal is None or not self.temporal.resample:
      return 1
    return 2 ** (self.num_levels - 1)
