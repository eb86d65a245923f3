# SPDX-License-Identifier: Apache-2.0
"""The networks of other projects, built at random from what they publish."""

import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.comparison import Size
from lumiere_jax import parity
from lumiere_jax.errors import UserError

_KARRAS = "denoising_diffusion_pytorch"


@dataclass(frozen=True)
class Peer:
  """A network in PyTorch, and how it is called.

  Attributes:
    network: the module; all of its parameters can train.
    parameters: all of them.
    temporal: those that its own project trains behind a frozen image model;
      empty where it has no such split.
    call: (clip (b, c, t, h, w)) -> the prediction, of the same shape.
  """

  network: Any
  parameters: list[Any]
  temporal: list[Any]
  call: Callable[[Any], Any]


def lumiere_pytorch(size: Size) -> Peer:
  """lumiere-pytorch's wrapper around the U-Net that its author pairs with it.

  `KarrasUnet` of denoising-diffusion-pytorch with one block per stage, wrapped
  by `MPLumiere`, the form made for it. It is inflated as the paper says: a
  convolution behind each block of all levels but the coarsest, attention
  behind those of the coarsest, resampling of time with that of space. It has
  no text.
  """
  import torch
  from lumiere_pytorch import MPLumiere

  levels = len(size.channels)
  first = size.channels[0]
  image_model = _karras_unet()(
    image_size=size.pixels,
    dim=first,
    dim_max=size.channels[-1],
    channels=3,
    num_downsamples=levels - 1,
    num_blocks_per_stage=1,
    attn_res=tuple(size.pixels // 2**level for level in range(1, levels)),
    dropout=0.0,
  )
  # Down: a block, then a downsampling one and a block for each further level.
  # Up: two blocks and an upsampling one for each level from the coarsest.
  down, up = 2 * levels - 1, 3 * levels - 1
  convs = [f"downs.{i}" for i in range(0, down - 1, 2)]
  convs += [f"ups.{i}" for i in range(3, up) if i % 3 != 2]
  deep = [f"downs.{down - 1}", "mids.0", "mids.1", "ups.0", "ups.1"]
  network = MPLumiere(
    image_model,
    image_size=size.pixels,
    unet_time_kwarg="time",
    conv_module_names=convs,
    attn_module_names=deep,
    downsample_module_names=[f"downs.{i}" for i in range(1, down, 2)],
    upsample_module_names=[f"ups.{i}" for i in range(2, up, 3)],
  )
  # Its own `parameters` are the temporal ones; the image model is frozen.
  temporal = list(network.parameters())
  every = list(torch.nn.Module.parameters(network))
  time = torch.full((1,), 0.5)
  return Peer(
    network, every, temporal, lambda x: network(x, time=time.to(x.device))
  )


def _karras_unet() -> Any:
  """The class, without its package's own imports.

  They bring trainers, which want torchvision and accelerate; the U-Net and its
  attention need neither.
  """
  if _KARRAS not in sys.modules:
    spec = importlib.util.find_spec(_KARRAS)
    package = types.ModuleType(_KARRAS)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[_KARRAS] = package
  return importlib.import_module(f"{_KARRAS}.karras_unet").KarrasUnet


def motion(size: Size) -> Peer:
  """The U-Net of AnimateDiff in diffusers, attention where ours has it."""
  from diffusers import UNetMotionModel

  # So many that each is as wide as ours: the finest level's width.
  heads = tuple(width // size.channels[0] for width in size.channels)
  network = UNetMotionModel(
    **_diffusers(size, "Motion"),
    num_attention_heads=heads,
    motion_num_attention_heads=heads,
    motion_max_seq_length=size.frames,
  )
  # The text of each frame, as its pipeline repeats it.
  return _of_diffusers(network, size, ("motion_modules",), size.frames)


def unet3d(size: Size) -> Peer:
  """The U-Net of ModelScope in diffusers, attention likewise.

  Its first block attends over time in 8 heads, whatever the width of the level:
  256 wide for our 32 channels, which would be most of its operations. It gets
  two heads, so that it is to its level about as it is in the published network
  (512 for 320 channels).
  """
  from diffusers import UNet3DConditionModel
  from diffusers.models.transformers.transformer_temporal import (
    TransformerTemporalModel,
  )

  width = size.channels[0]
  network = UNet3DConditionModel(
    **_diffusers(size, "3D"), attention_head_dim=width
  )
  network.transformer_in = TransformerTemporalModel(
    num_attention_heads=2,
    attention_head_dim=width,
    in_channels=width,
    num_layers=1,
    norm_num_groups=size.groups,
  )
  return _of_diffusers(network, size, ("temp_", "transformer_in"))


def _diffusers(size: Size, kind: str) -> dict[str, Any]:
  deeper = len(size.channels) - 1
  return {
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": size.channels,
    "layers_per_block": 1,
    "norm_num_groups": size.groups,
    "cross_attention_dim": size.text_width,
    "down_block_types": (
      f"DownBlock{kind}",
      *[f"CrossAttnDownBlock{kind}"] * deeper,
    ),
    "up_block_types": (
      *[f"CrossAttnUpBlock{kind}"] * deeper,
      f"UpBlock{kind}",
    ),
  }


def _of_diffusers(
  network: Any, size: Size, temporal: tuple[str, ...], texts: int = 1
) -> Peer:
  import torch

  text = torch.randn(1, size.tokens, size.text_width).repeat(texts, 1, 1)

  def call(x: Any) -> Any:
    said = text.to(x.device)
    return network(x, 500, encoder_hidden_states=said, return_dict=False)[0]

  named = dict(network.named_parameters())
  part = [p for n, p in named.items() if any(each in n for each in temporal)]
  return Peer(network, list(named.values()), part, call)


PEERS: dict[str, Callable[[Size], Peer]] = {
  "lumiere_pytorch": lumiere_pytorch,
  "motion": motion,
  "unet3d": unet3d,
}
_PACKAGES = {"lumiere_pytorch": ("lumiere_pytorch", _KARRAS)}


def check_installed(peer: str) -> None:
  """Raises UserError if a peer's packages are not there."""
  names = ("torch", *_PACKAGES.get(peer, ("diffusers",)))
  if missing := parity.missing_packages(*names):
    raise UserError(
      f"--peer={peer} needs {', '.join(missing)}: "
      "benchmarks/README.md installs it"
    )
