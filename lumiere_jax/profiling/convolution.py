# SPDX-License-Identifier: Apache-2.0
"""Operations of what multiplies: dots, convolutions and libraries' calls."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lumiere_jax.profiling.hlo import Instruction, Shape

# Libraries that XLA hands a product to; their text tells the contracted axes.
_GEMM = ("__cublas$", "__onednn$matmul", "__triton_gemm")
_CONVOLUTION = "__cudnn$conv"


class _Window(NamedTuple):
  """How a convolution goes over one axis."""

  size: int
  stride: int
  low: int
  base_dilation: int
  window_dilation: int


def multiplied(line: Instruction, operands: Sequence[Shape]) -> int:
  """Operations of an instruction, two for a multiplication and an addition.

  Convolutions are counted as XLA's own analysis counts them: a tap that falls
  on padding, or between the elements of a dilated operand, is none. TPUs have
  convolutions for dots too.

  Args:
    line: of any kind; 0 for one that multiplies no matrices.
    operands: shapes of its operands.
  """
  if line.opcode == "dot":
    contracted = line.dims("lhs_contracting_dims")
    return 2 * line.shape.size * _product(operands[0], contracted)
  if line.opcode == "convolution":
    return _convolution(line, operands[0], operands[1], line.shape)
  if line.opcode == "custom-call":
    return _library(line, operands)
  return 0


def _product(shape: Shape, axes: Sequence[int]) -> int:
  return math.prod(shape.dims[axis] for axis in axes)


def _library(line: Instruction, operands: Sequence[Shape]) -> int:
  target = re.search(r'custom_call_target="([^"]*)"', line.attributes)
  name = target[1] if target else ""
  if name.startswith(_CONVOLUTION):
    first, second = operands[:2]
    # Labels and window are those of the forward convolution.
    if "BackwardInput" in name:
      return _convolution(line, line.shape, second, first)
    if "BackwardFilter" in name:
      return _convolution(line, first, line.shape, second)
    return _convolution(line, first, second, line.shape)
  if name.startswith(_GEMM):
    axes = re.search(
      r'"lhs_contracting_dimensions":\[([^\]]*)\]', line.attributes
    )
    if axes:
      axes = [int(i) for i in re.findall(r"\d+", axes[1])]
    else:
      axes = [len(operands[0].dims) - 1]
    return 2 * line.shape.size * _product(operands[0], axes)
  return 0


def _convolution(
  line: Instruction, image: Shape, kernel: Shape, out: Shape
) -> int:
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line.attributes)
  image_axes, _, out_axes = labels.groups()
  taps = 1
  for axis, window in enumerate(_windows(line.attributes)):
    number = str(axis)
    taps *= _inside(
      image.dims[image_axes.index(number)],
      out.dims[out_axes.index(number)],
      window,
    )
  features = image.dims[image_axes.index("f")]
  features //= line.number("feature_group_count", 1)
  batch = image.dims[image_axes.index("b")]
  batch //= line.number("batch_group_count", 1)
  return 2 * taps * features * batch * out.dims[out_axes.index("f")]


def _windows(attributes: str) -> list[_Window]:
  """The windows of `window={size=3x3 stride=2x2 pad=1_1x1_1}`, axis by axis."""
  text = re.search(r"window=\{([^}]*)\}", attributes)
  fields = dict(re.findall(r"(\w+)=(\S+)", text[1])) if text else {}

  def numbers(name: str, count: int, default: int) -> list[int]:
    if name not in fields:
      return [default] * count
    return [int(part.split("_")[0]) for part in fields[name].split("x")]

  sizes = numbers("size", 0, 1)
  rows = [
    sizes,
    *(
      numbers(name, len(sizes), default)
      for name, default in (
        ("stride", 1),
        ("pad", 0),
        ("lhs_dilate", 1),
        ("rhs_dilate", 1),
      )
    ),
  ]
  return [_Window(*values) for values in zip(*rows, strict=True)]


def _inside(size: int, outputs: int, window: _Window) -> int:
  """How many pairs of an output and a tap have an element of the image.

  Output o and tap k meet at p = o stride + k window_dilation - low of the
  dilated image, whose elements are at multiples of base_dilation. For each tap
  these are the o of one residue within a range: TPUs have windows of many
  thousands, too many to look at pairs.
  """
  stride, base = window.stride, window.base_dilation
  start = np.arange(window.size) * window.window_dilation - window.low
  first = np.maximum(-(start // stride), 0)
  last = np.minimum(((size - 1) * base - start) // stride, outputs - 1)
  common = math.gcd(stride, base)
  period = base // common
  residue = -(start // common) * pow(stride // common, -1, period) % period
  upto = [(end - residue) // period for end in (last, first - 1)]
  count = np.where(start % common == 0, upto[0] - upto[1], 0)
  return int(np.sum(np.maximum(count, 0)))
