# SPDX-License-Identifier: Apache-2.0
"""Where the time of a network goes: each of its blocks, run by itself.

A block is a level on the way down, the middle, or a level on the way up. It is
compiled and timed alone, on random inputs of the shapes that it gets in the
network, so that the sum tells what fusion across blocks is worth.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumiere_jax import build, trees
from lumiere_jax.benchmarking.clock import measure
from lumiere_jax.benchmarking.subject import (
  Subject,
  network_inputs,
  random_like,
  random_params,
)
from lumiere_jax.compiling import compiler_options
from lumiere_jax.models.stunet import DownBlock, MidBlock, STUNet, UpBlock
from lumiere_jax.profiling.program import read_program
from lumiere_jax.shapes import PyTree

_BLOCKS = (DownBlock, MidBlock, UpBlock)


@dataclass(frozen=True, kw_only=True)
class Block:
  """The figures of one block.

  Attributes:
    name: "down_0", ..., "mid", ..., "up_0".
    level: 0 is the finest.
    frames: that the level has.
    pixels: height and width that it begins with.
    seconds: median of one run; in training forward and backward.
    flops: operations of its multiplications, as compiled.
    bytes: that its program reads and writes in main memory.
  """

  name: str
  level: int
  frames: int
  pixels: int
  seconds: float
  flops: int
  bytes: int

  @property
  def rate(self) -> float:
    """Operations per second."""
    return self.flops / self.seconds

  @property
  def intensity(self) -> float:
    """Operations for each byte."""
    return self.flops / self.bytes if self.bytes else 0.0

  def as_dict(self) -> dict[str, Any]:
    return {
      **asdict(self),
      "flops_per_second": self.rate,
      "flops_per_byte": self.intensity,
      "bytes_per_second": self.bytes / self.seconds,
    }


@dataclass(frozen=True)
class _Call:
  """A block as the network calls it: the module, and shapes of its inputs."""

  module: nn.Module
  args: tuple[Any, ...]

  @property
  def level(self) -> int:
    if isinstance(self.module, MidBlock):
      return self.module.cfg.num_levels - 1
    return self.module.level


def time_blocks(subject: Subject, repeats: int) -> list[Block]:
  """Times each block of a subject's network on the first device.

  Args:
    subject: of one device, or of several with the share of one.
    repeats: runs of each.
  """
  cfg = subject.cfg
  params = random_params(cfg)
  trained = build.trainable(cfg, params)[0] if subject.what == "train" else {}
  found = []
  for name, call in _calls(subject).items():
    run, args = _program(call, params[name], trained.get(name))
    jitted = jax.jit(run, compiler_options=compiler_options())
    compiled = jitted.lower(*args).compile()
    program = read_program(compiled)
    arrays = random_like(args)
    timing = measure(lambda c=compiled, a=arrays: c(*a), repeats)
    h = call.args[0]
    found.append(
      Block(
        name=name,
        level=call.level,
        frames=h.shape[1] if h.ndim == 5 else 1,
        pixels=h.shape[-3],
        seconds=timing.median,
        flops=program.multiplied,
        bytes=program.bytes,
      )
    )
  return found


def _calls(subject: Subject) -> dict[str, _Call]:
  """The blocks of the network in their order, by name."""
  cfg, calls = subject.cfg, {}
  batch = max(subject.call.batch // subject.devices, 1)
  call = subject.call.__class__(**{**asdict(subject.call), "batch": batch})
  network = STUNet(cfg.model)

  def note(inner: Any, args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    # One that is made anew in the backward pass is called within another.
    if isinstance(module, _BLOCKS) and module.name not in calls:
      shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args
      )
      calls[module.name] = _Call(module.clone(parent=None), shapes)
    return inner(*args, **kwargs)

  params = build.abstract_params(cfg.model)
  with nn.intercept_methods(note):
    jax.eval_shape(
      lambda p, *args: network.apply({"params": p}, *args),
      params,
      *network_inputs(cfg, call),
    )
  return calls


def _program(
  call: _Call, params: PyTree, trained: PyTree | None
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """What runs, and its inputs: the block, or it and its gradients."""

  def forward(params: PyTree, *args: Any) -> Any:
    return call.module.apply({"params": params}, *args)

  if trained is None:
    return forward, (params, *call.args)
  paths = trees.flatten(trained)
  trained, frozen = trees.split(params, lambda path: path in paths)
  outputs = jax.eval_shape(forward, params, *call.args)
  h, *rest = call.args

  def backward(trained, frozen, slopes, h, *rest):
    def loss(trained, h):
      out = forward(trees.merge(trained, frozen), h, *rest)
      products = jax.tree.map(lambda y, s: jnp.sum(y * s), out, slopes)
      return sum(jax.tree.leaves(products))

    return jax.grad(loss, argnums=(0, 1))(trained, h)

  return backward, (trained, frozen, outputs, h, *rest)
