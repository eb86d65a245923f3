# SPDX-License-Identifier: Apache-2.0
"""The layers of the U-Net, counted from its configuration alone.

This follows models/stunet.py and nn/ by hand and shares no code with them, so
that it can be held against what the compiler counts and against the tree of
the real parameters (tests/profiling/network_test.py does both).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from lumiere_jax.config import UNetConfig
from lumiere_jax.errors import UserError
from lumiere_jax.profiling.ledger import Layer, Ledger, Value

SPATIAL = "spatial convolution"
ATTENTION = "text and image attention"
INFLATION = "inflation convolution"
TEMPORAL_ATTENTION = "temporal attention"
RESAMPLING = "temporal resampling"
EMBEDDING = "embedding"
KINDS = (
  SPATIAL,
  ATTENTION,
  INFLATION,
  TEMPORAL_ATTENTION,
  RESAMPLING,
  EMBEDDING,
)


@dataclass(frozen=True, kw_only=True)
class Call:
  """The size of what one call of the network is given.

  Attributes:
    batch: clips; guidance calls the network on two for each that it makes.
    frames: of each; 1 for images.
    height: pixels.
    width: pixels.
    tokens: of the text.
  """

  batch: int
  frames: int
  height: int
  width: int
  tokens: int


@dataclass(frozen=True)
class Network:
  """The account of one call.

  Attributes:
    layers: in the order in which they run.
    params: the shape of every parameter by its path "a/b/c".
    trained: how many numbers of them train.
  """

  layers: tuple[Layer, ...]
  params: dict[str, tuple[int, ...]]
  trained: int


@dataclass(frozen=True)
class _Told:
  """What every block is told; see `models.stunet.Condition`."""

  emb: Value
  temporal_emb: Value | None
  text: Value


def count_network(
  cfg: UNetConfig,
  call: Call,
  trained: Callable[[str], bool] = lambda path: False,
) -> Network:
  """Counts one call of the network.

  Args:
    cfg: the network.
    call: the size of its inputs.
    trained: whether the parameter of this path "a/b/c" trains; none does
      where nothing trains.

  Raises:
    UserError: a size that the strides of the network do not divide.
  """
  _check(cfg, call)
  ledger = Ledger(trained)
  told = _condition(ledger, cfg, call)
  h = Value(
    (
      call.batch,
      call.frames,
      call.height // cfg.patch_size,
      call.width // cfg.patch_size,
      cfg.in_channels * cfg.patch_size**2,
    )
  )
  with ledger.within(kind=SPATIAL, level=0):
    h = ledger.conv("conv_in", h, cfg.block_out_channels[0])
  skips = [h]
  for level in range(cfg.num_levels):
    with ledger.block(f"down_{level}", level):
      h, outputs = _down(ledger, cfg, level, h, told)
    skips += outputs
  with ledger.block("mid", cfg.num_levels - 1):
    h = _middle(ledger, cfg, h, told)
  for level in reversed(range(cfg.num_levels)):
    count = cfg.layers[level] + 1
    skips, used = skips[:-count], skips[-count:]
    with ledger.block(f"up_{level}", level):
      h = _up(ledger, cfg, level, h, used, told)
  h = ledger.norm("norm_out", h)
  with ledger.within(kind=SPATIAL, level=0):
    ledger.conv("conv_out", h, cfg.out_channels * cfg.patch_size**2)
  params = ledger.params
  count = sum(
    math.prod(shape) for path, shape in params.items() if trained(path)
  )
  return Network(tuple(ledger.layers), params, count)


def _check(cfg: UNetConfig, call: Call) -> None:
  for name, size, stride in (
    ("height", call.height, cfg.spatial_stride),
    ("width", call.width, cfg.spatial_stride),
    ("frames", call.frames, cfg.temporal_stride),
  ):
    if size < 1 or size % stride:
      raise UserError(
        f"{name}={size} is not a multiple of {stride}, the stride of the "
        "network"
      )


def _condition(ledger: Ledger, cfg: UNetConfig, call: Call) -> _Told:
  dim, tokens = cfg.emb_dim, (call.batch, call.tokens)
  text = Value((*tokens, cfg.encoder_hid_dim))
  with ledger.within(kind=EMBEDDING):
    time = _sinusoid(ledger, cfg, "time", call.batch)
    live = time.live
    if cfg.class_embed_type == "timestep":
      live |= _sinusoid(ledger, cfg, "noise_level", call.batch).live
    pooled = _pool(ledger, cfg, "text_pool", text)
    emb = Value((call.batch, dim), live or pooled.live)
    temporal_emb = None
    if cfg.temporal is not None and cfg.temporal.conditioned:
      pooled = _pool(ledger, cfg, "temporal_text_pool", text, final_norm=False)
      frame = _sinusoid(ledger, cfg, "temporal_frame", call.frames)
      live |= pooled.live or frame.live
      temporal_emb = Value((call.batch, call.frames, dim), live)
    text = ledger.dense("text_proj", text, cfg.cross_attention_dim)
  return _Told(emb, temporal_emb, text)


def _sinusoid(ledger: Ledger, cfg: UNetConfig, name: str, rows: int) -> Value:
  """`nn.embed.TimestepEmbedding`."""
  with ledger.within(name):
    x = Value((rows, cfg.block_out_channels[0]))
    return ledger.dense(
      "linear_2", ledger.dense("linear_1", x, cfg.emb_dim), cfg.emb_dim
    )


def _pool(
  ledger: Ledger,
  cfg: UNetConfig,
  name: str,
  text: Value,
  final_norm: bool = True,
) -> Value:
  """`nn.embed.TextEmbedding`: the mean token attends to all and itself."""
  b, s, d = text.shape
  with ledger.within(name):
    x = ledger.norm("norm1", text)
    with ledger.within("pool"):
      live = x.live | ledger.param("position", d)
      q = ledger.dense("q", Value((b, 1, d), live), d)
      k, v = (
        ledger.dense(name, Value((b, s + 1, d), live), d) for name in "kv"
      )
      flops = 2 * b * (s + 1) * d
      live = ledger.product("logits", flops, q.live, k.live)
      live = ledger.product("mix", flops, live, v.live)
    x = ledger.dense("proj", Value((b, d), live), cfg.emb_dim)
    return ledger.norm("norm2", x) if final_norm else x


def _resnet(
  ledger: Ledger,
  name: str,
  x: Value,
  width: int,
  emb: Value,
  scale: float = 1.0,
) -> Value:
  """`nn.resnet.ResnetBlock`; `scale` is of height and width."""
  *lead, h, w, c = x.shape
  with ledger.within(name, kind=SPATIAL):
    size = (*lead, int(h * scale), int(w * scale), c)
    y = ledger.norm("norm1", x)
    y = ledger.conv("conv1", Value(size, y.live), width)
    with ledger.within(kind=EMBEDDING):
      emb = ledger.dense("time_proj", emb, 2 * width)
    y = ledger.norm("norm2", y)
    y = ledger.conv("conv2", Value(y.shape, y.live or emb.live), width)
    if c != width:
      x = ledger.pixelwise("shortcut", Value(size, x.live), width)
  return Value(y.shape, x.live or y.live)


def _attend(
  ledger: Ledger,
  cfg: UNetConfig,
  name: str,
  x: Value,
  text: Value,
  only_cross: bool,
) -> Value:
  """`nn.attention.TextImageAttention`: one text for all frames of a clip."""
  h, w, c = x.shape[-3:]
  s, queries = text.shape[1], x.rows
  with ledger.within(name, kind=ATTENTION):
    if cfg.cross_attention_norm == "group_norm":
      text = ledger.norm("norm_text", text)
    y = ledger.norm("norm", x)
    q = ledger.dense("to_q", y, c)
    k, v = ledger.dense("text_k", text, c), ledger.dense("text_v", text, c)
    flops = 2 * queries * s * c
    logits = ledger.product("text_logits", flops, q.live, k.live)
    if only_cross:
      live = ledger.product("text_mix", flops, logits, v.live)
    else:
      own_k, own_v = ledger.dense("to_k", y, c), ledger.dense("to_v", y, c)
      own = 2 * queries * h * w * c
      logits |= ledger.product("logits", own, q.live, own_k.live)
      live = ledger.product("text_mix", flops, logits, v.live)
      live |= ledger.product("mix", own, logits, own_v.live)
    y = ledger.dense("to_out", Value(x.shape, live), c)
  return Value(x.shape, x.live or y.live)


def _inflate(
  ledger: Ledger, cfg: UNetConfig, level: int, index: int, x: Value, told: _Told
) -> Value:
  """What inflation adds behind a residual block (Fig. 4)."""
  if cfg.temporal is None:
    return x
  emb = told.temporal_emb
  if emb is not None:  # The frames that this level still has.
    emb = Value((*x.shape[:2], emb.shape[-1]), emb.live)
  if level == cfg.num_levels - 1:
    with ledger.within(f"temporal_attention_{index}", kind=TEMPORAL_ATTENTION):
      return _temporal_attention(ledger, cfg, x, emb)
  with ledger.within(f"temporal_conv_{index}", kind=INFLATION):
    return _conv_inflation(ledger, cfg, x, emb)


def _conv_inflation(
  ledger: Ledger, cfg: UNetConfig, x: Value, emb: Value | None
) -> Value:
  """`nn.temporal.ConvInflation`."""
  c = x.shape[-1]
  y = ledger.conv("spatial", ledger.norm("norm1", x), c)
  y = ledger.norm("norm2", y)
  if emb is not None:
    emb = ledger.dense("emb_proj", emb, 2 * c)
    y = Value(y.shape, y.live or emb.live)
  y = ledger.temporal("temporal", y, cfg.temporal.kernel_size)
  y = ledger.dense("proj", y, c)
  return Value(x.shape, x.live or y.live)


def _temporal_attention(
  ledger: Ledger, cfg: UNetConfig, x: Value, emb: Value | None
) -> Value:
  """`nn.temporal.AttentionInflation`: over the frames of each pixel."""
  t, c = x.shape[1], x.shape[-1]
  y = ledger.norm("norm", x)
  if emb is not None:
    emb = ledger.dense("emb_proj", emb, 2 * c)
    y = Value(y.shape, y.live or emb.live)
  flops = 2 * x.rows * t * c
  for i in range(cfg.temporal.attention_layers):
    z = ledger.norm(f"norm_{i}", y)
    q, k, v = (
      ledger.dense(f"{name}_{i}", z, c) for name in ("to_q", "to_k", "to_v")
    )
    live = ledger.product(f"logits_{i}", flops, q.live, k.live)
    live = ledger.product(f"mix_{i}", flops, live, v.live)
    z = ledger.dense(f"to_out_{i}", Value(x.shape, live), c)
    y = Value(x.shape, y.live or z.live)
  y = ledger.dense("proj", y, c)
  return Value(x.shape, x.live or y.live)


def _resample(
  ledger: Ledger, cfg: UNetConfig, name: str, x: Value, stride: int
) -> Value:
  """`nn.temporal.TemporalDownsample` (stride 2) and `TemporalUpsample` (1)."""
  if cfg.temporal is None or not cfg.temporal.resample:
    return x
  b, t, *rest = x.shape
  if stride == 1:
    x = Value((b, 2 * t, *rest), x.live)
  with ledger.within(name, kind=RESAMPLING):
    return ledger.temporal("conv", x, cfg.temporal.kernel_size, stride)


def _down(
  ledger: Ledger, cfg: UNetConfig, level: int, h: Value, told: _Told
) -> tuple[Value, list[Value]]:
  width, outputs = cfg.block_out_channels[level], []
  for i in range(cfg.layers[level]):
    h = _resnet(ledger, f"resnet_{i}", h, width, told.emb)
    h = _level_attention(ledger, cfg, level, i, h, told)
    h = _inflate(ledger, cfg, level, i, h, told)
    outputs.append(h)
  if level < cfg.num_levels - 1:
    h = _resnet(ledger, "downsample", h, width, told.emb, 0.5)
    h = _resample(ledger, cfg, "temporal_downsample", h, 2)
    outputs.append(h)
  return h, outputs


def _middle(ledger: Ledger, cfg: UNetConfig, h: Value, told: _Told) -> Value:
  level = cfg.num_levels - 1
  only_cross = cfg.mid_block_only_cross_attention
  for i in range(2):
    width = cfg.block_out_channels[level]
    h = _resnet(ledger, f"resnet_{i}", h, width, told.emb)
    if i == 0:
      h = _attend(ledger, cfg, "attention_0", h, told.text, only_cross)
    h = _inflate(ledger, cfg, level, i, h, told)
  return h


def _up(
  ledger: Ledger,
  cfg: UNetConfig,
  level: int,
  h: Value,
  skips: list[Value],
  told: _Told,
) -> Value:
  width = cfg.block_out_channels[level]
  for i in range(cfg.layers[level] + 1):
    skip = skips[-1 - i]
    joined = (*h.shape[:-1], h.shape[-1] + skip.shape[-1])
    h = Value(joined, h.live or skip.live)
    h = _resnet(ledger, f"resnet_{i}", h, width, told.emb)
    h = _level_attention(ledger, cfg, level, i, h, told)
    h = _inflate(ledger, cfg, level, i, h, told)
  if level > 0:
    h = _resnet(ledger, "upsample", h, width, told.emb, 2.0)
    h = _resample(ledger, cfg, "temporal_upsample", h, 1)
  return h


def _level_attention(
  ledger: Ledger, cfg: UNetConfig, level: int, index: int, h: Value, told: _Told
) -> Value:
  if not cfg.attention[level]:
    return h
  return _attend(
    ledger, cfg, f"attention_{index}", h, told.text, cfg.only_cross[level]
  )
