# SPDX-License-Identifier: Apache-2.0
"""The account of a network's layers, and the few operations that have a cost.

Only multiplications of matrices and convolutions are counted, two operations
for each multiplication and addition. Norms, activations and the like cost bytes
rather than arithmetic; they appear here for their parameters alone.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
  """What a layer takes or gives.

  Attributes:
    shape: channels last.
    live: whether its gradient is wanted: it depends on what trains.
  """

  shape: tuple[int, ...]
  live: bool = False

  @property
  def rows(self) -> int:
    """Number of vectors of channels."""
    return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class Layer:
  """One multiplication of the network.

  Attributes:
    path: of the module in the parameter tree; a product's own name behind it.
    level: 0 is the finest; None is outside of the levels.
    kind: of the block it belongs to, one of `network.KINDS`.
    op: "conv" (3 x 3), "temporal" (taps along time), "dense" or "product" (of
      two activations).
    flops: of the forward pass, padding included.
    inside: share of them whose factor is not a pixel of the padding.
    inputs: operands that are activations and whose gradient is wanted.
    weights: 1 if its kernel trains.
    recomputed: whether the backward pass makes it anew where blocks are
      recomputed.
  """

  path: str
  level: int | None
  kind: str
  op: str
  flops: int
  inside: float
  inputs: int
  weights: int
  recomputed: bool


def inside_share(height: int, width: int) -> float:
  """Share of a 3 x 3 convolution's taps that fall inside of the image."""
  return (3 * height - 2) * (3 * width - 2) / (9 * height * width)


class Ledger:
  """Writes down the layers of a network in the order in which they run.

  Attributes:
    layers: so far.
    params: the shape of every parameter by its path "a/b/c".
  """

  def __init__(self, trained: Callable[[str], bool]):
    """trained: whether the parameter of this path trains."""
    self.layers: list[Layer] = []
    self.params: dict[str, tuple[int, ...]] = {}
    self._trained = trained
    self._scope: tuple[str, ...] = ()
    self._level: int | None = None
    self._kind = ""
    self._recomputed = False

  @contextlib.contextmanager
  def within(
    self, name: str = "", *, kind: str = "", level: int | None = None
  ) -> Iterator[None]:
    """What is inside lies under this name, and is of this kind and level."""
    before = self._scope, self._kind, self._level
    self._scope = (*self._scope, name) if name else self._scope
    self._kind = kind or self._kind
    self._level = self._level if level is None else level
    yield
    self._scope, self._kind, self._level = before

  @contextlib.contextmanager
  def block(self, name: str, level: int) -> Iterator[None]:
    """A block of one level, as it is recomputed.

    What ends it need not be made anew: no gradient inside asks for it.
    """
    self._recomputed = True
    with self.within(name, level=level):
      yield
    self._recomputed = False
    last = 1 + self.layers[-1].path.endswith("/shortcut")
    for i in range(len(self.layers) - last, len(self.layers)):
      self.layers[i] = dataclasses.replace(self.layers[i], recomputed=False)

  def param(self, name: str, *shape: int) -> bool:
    """Writes a parameter down; returns whether it trains."""
    path = "/".join((*self._scope, name))
    self.params[path] = shape
    return self._trained(path)

  def norm(self, name: str, x: Value) -> Value:
    """A norm with scale and bias."""
    with self.within(name):
      scale, bias = (self.param(p, x.shape[-1]) for p in ("scale", "bias"))
    return dataclasses.replace(x, live=x.live or scale or bias)

  def dense(self, name: str, x: Value, width: int) -> Value:
    """Linear layer; also a convolution of 1 x 1 pixels."""
    shape = (x.shape[-1], width)
    return self._weighted(name, "dense", x, shape, x.rows)

  def pixelwise(self, name: str, x: Value, width: int) -> Value:
    """Convolution of 1 x 1 pixels: a linear layer with another shape."""
    shape = (1, 1, x.shape[-1], width)
    return self._weighted(name, "dense", x, shape, x.rows)

  def conv(self, name: str, x: Value, width: int) -> Value:
    """Convolution of 3 x 3 pixels of (..., h, w, c), zero-padded."""
    shape = (3, 3, x.shape[-1], width)
    inside = inside_share(*x.shape[-3:-1])
    return self._weighted(name, "conv", x, shape, x.rows, inside)

  def temporal(self, name: str, x: Value, taps: int, stride: int = 1) -> Value:
    """Convolution of (b, t, h, w, c) along time, a matmul for each tap.

    The matmuls run over the zeros beside the clip as well, in the compiled
    program too, so that there is no share to leave out.
    """
    b, t, h, w, c = x.shape
    kept = Value((b, -(-t // stride), h, w, c), x.live)
    return self._weighted(name, "temporal", kept, (taps, c, c), kept.rows)

  def product(self, name: str, flops: int, first: bool, second: bool) -> bool:
    """Product of two activations; takes and returns whether they are live."""
    self._add(name, "product", flops, inputs=first + second)
    return first or second

  def _weighted(
    self,
    name: str,
    op: str,
    x: Value,
    kernel: tuple[int, ...],
    rows: int,
    inside: float = 1.0,
  ) -> Value:
    """A kernel and a bias; each row meets every entry of the kernel once."""
    with self.within(name):
      trains = self.param("kernel", *kernel)
      bias = self.param("bias", kernel[-1])
    flops = 2 * rows * math.prod(kernel)
    self._add(name, op, flops, inside, inputs=int(x.live), weights=int(trains))
    live = x.live or trains or bias
    return Value((*x.shape[:-1], kernel[-1]), live)

  def _add(
    self,
    name: str,
    op: str,
    flops: int,
    inside: float = 1.0,
    inputs: int = 0,
    weights: int = 0,
  ) -> None:
    self.layers.append(
      Layer(
        path="/".join((*self._scope, name)),
        level=self._level,
        kind=self._kind,
        op=op,
        flops=flops,
        inside=inside,
        inputs=inputs,
        weights=weights,
        recomputed=self._recomputed,
      )
    )
