# SPDX-License-Identifier: Apache-2.0
import itertools
import random

import pytest

from lumiere_jax.profiling.convolution import multiplied
from lumiere_jax.profiling.hlo import Shape, parse

HEAD = "HloModule m\n\nENTRY main {\n"


def operations(*lines: str) -> int:
  """Of the last line; those before it are its operands."""
  module = parse(HEAD + "\n".join(f"  {line}" for line in lines) + "\n}\n")
  found = module.computations["main"]
  last = list(found.values())[-1]
  return multiplied(last, [found[name].shape for name in last.operands])


def image(*dims: int, name: str = "a") -> str:
  sizes = ",".join(map(str, dims))
  return f"%{name} = f32[{sizes}]{{3,2,1,0}} parameter(0)"


def test_a_dot_with_a_batch():
  assert (
    operations(
      "%a = bf16[7,4,5]{2,1,0} parameter(0)",
      "%b = bf16[7,5,6]{2,1,0} parameter(1)",
      "ROOT %d = bf16[7,4,6]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, "
      "lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}",
    )
    == 2 * 7 * 4 * 5 * 6
  )


def test_a_convolution_leaves_its_padding_out():
  lines = (
    image(2, 4, 4, 3),
    image(3, 3, 3, 5, name="k"),
    "ROOT %c = f32[2,4,4,5]{3,2,1,0} convolution(%a, %k), "
    "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f",
  )
  assert operations(*lines) == 2 * 2 * 10 * 10 * 3 * 5


@pytest.mark.parametrize(
  ("target", "operands", "result"),
  [
    ("Forward", ("2,6,6,3", "3,3,3,5"), "2,3,3,5"),
    ("BackwardInput", ("2,3,3,5", "3,3,3,5"), "2,6,6,3"),
    ("BackwardFilter", ("2,6,6,3", "2,3,3,5"), "3,3,3,5"),
  ],
)
def test_cudnn_does_the_same_in_all_directions(target, operands, result):
  first, second = (f"f32[{dims}]{{3,2,1,0}}" for dims in operands)
  assert (
    operations(
      f"%a = {first} parameter(0)",
      f"%b = {second} parameter(1)",
      f"ROOT %c = (f32[{result}]{{3,2,1,0}}, u8[64]{{0}}) custom-call(%a, %b), "
      "window={size=3x3 stride=2x2 pad=1_0x1_0}, dim_labels=b01f_01io->b01f, "
      f'custom_call_target="__cudnn$conv{target}", backend_config={{"x":"y"}}',
    )
    == 2 * 2 * 8 * 8 * 3 * 5
  )


def test_cublas_and_onednn():
  arrays = (
    "%a = bf16[5,4]{1,0} parameter(0)",
    "%b = bf16[5,6]{1,0} parameter(1)",
  )
  gemm = (
    "ROOT %d = (bf16[4,6]{1,0}, s8[64]{0}) custom-call(%a, %b), "
    'custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":'
    '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["0"],'
    '"rhs_contracting_dimensions":["0"]}}}'
  )
  assert operations(*arrays, gemm) == 2 * 4 * 5 * 6
  matmul = (
    "ROOT %d = bf16[5,6]{1,0} custom-call(%a, %b), "
    'custom_call_target="__onednn$matmul"'
  )
  assert operations(*arrays, matmul) == 2 * 5 * 4 * 6


def test_what_multiplies_no_matrices_counts_nothing():
  add = "ROOT %s = f32[4]{0} add(%a, %a)"
  assert operations("%a = f32[4]{0} parameter(0)", add) == 0
  call = 'ROOT %s = f32[4]{0} custom-call(%a), custom_call_target="Sharding"'
  assert operations("%a = f32[4]{0} parameter(0)", call) == 0


def taps(size, outputs, window, stride, low, base, dilation) -> int:
  """Pairs of an output and a tap that meet an element, one by one."""
  count = 0
  for o, k in itertools.product(range(outputs), range(window)):
    place = o * stride + k * dilation - low
    inside = 0 <= place <= (size - 1) * base
    count += inside and place % base == 0
  return count


def test_windows_of_any_kind():
  """Strided, dilated, padded by more than they are wide or less than none."""
  draw = random.Random(0)
  for _ in range(300):
    size, outputs, window = (draw.randint(1, 9) for _ in range(3))
    stride, base, dilation = (draw.randint(1, 4) for _ in range(3))
    low = draw.randint(-3, 9)
    found = operations(
      f"%a = f32[3,{size},5]{{2,1,0}} parameter(0)",
      f"%k = f32[{window},5,7]{{2,1,0}} parameter(1)",
      f"ROOT %c = f32[3,{outputs},7]{{2,1,0}} convolution(%a, %k), "
      f"window={{size={window} stride={stride} pad={low}_1 lhs_dilate={base} "
      f"rhs_dilate={dilation}}}, dim_labels=b0f_0io->b0f",
    )
    want = taps(size, outputs, window, stride, low, base, dilation)
    assert found == 2 * want * 3 * 5 * 7


def test_groups_of_features_and_of_the_batch():
  def lines(attribute):
    return (
      "%a = f32[4,8,6]{2,1,0} parameter(0)",
      "%k = f32[1,3,6]{2,1,0} parameter(1)",
      "ROOT %c = f32[4,8,6]{2,1,0} convolution(%a, %k), window={size=1}, "
      f"dim_labels=b0f_0io->b0f, {attribute}",
    )

  assert operations(*lines("feature_group_count=2")) == 2 * 4 * 8 * 3 * 6
  assert operations(*lines("batch_group_count=2")) == 2 * 2 * 8 * 6 * 6


def test_shapes_know_their_place_in_memory():
  tiled = Shape("bf16", (2, 9, 3), "2,1,0:T(8,128)(2,1)")
  assert (tiled.data_bytes, tiled.bytes) == (108, 2 * 16 * 128 * 2)
  assert Shape("f32", (2, 3), "1,0").bytes == 24
  assert tiled.in_main_memory
  assert not Shape("bf16", (2, 3), "1,0:T(8,128)S(1)").in_main_memory
