# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import pytest

from lumiere_jax.profiling.hlo import Shape, parse

TEXT = """HloModule jit_f, is_scheduled=true, num_partitions=4

%inner (p: f32[4,2]) -> f32[4,2] {
  %p = f32[4,2]{1,0:T(8,128)} parameter(0)
  ROOT %n = f32[4,2]{1,0} negate(f32[4,2]{1,0:T(8,128)} %p), metadata={a="("}
}

ENTRY %main.3 (a: f32[4,2]) -> (f32[4,2], s32[]) {
  %a = f32[4,2]{1,0} parameter(0)
  %c = s32[] constant(-7)
  %f = f32[4,2]{1,0} fusion(%a), kind=kLoop, calls=%inner
  %t = (f32[4,2]{1,0}, (s32[], /*index=2*/bf16[<=3]{0})) tuple(%f, %c)
  ROOT %out = (f32[4,2]{1,0}, s32[]) custom-call(%f, /*index=1*/%c), MORE
}
""".replace("MORE", "x_dims={0,2}, y=5, branch_computations={%inner, %inner}")


def test_reads_what_is_printed():
  module = parse(TEXT)
  assert (module.entry, module.partitions) == ("main.3", 4)
  inner, main = module.computations["inner"], module.computations["main.3"]
  assert inner["n"].operands == ("p",)
  assert inner["p"].shape == Shape("f32", (4, 2), "1,0:T(8,128)")
  assert main["c"].argument == "-7"
  assert main["c"].shape.dims == ()
  assert main["f"].called == {"calls": ("inner",)}
  assert [s.dtype for s in main["t"].shapes] == ["f32", "s32", "bf16"]
  assert main["t"].shapes[2].dims == (3,)
  out = module.root("main.3")
  assert (out.opcode, out.operands) == ("custom-call", ("f", "c"))
  assert out.dims("x_dims") == (0, 2)
  assert out.dims("none") == ()
  assert (out.number("y", 1), out.number("z", 1)) == (5, 1)
  assert out.called == {"branch_computations": ("inner", "inner")}


@pytest.mark.parametrize(
  ("dtype", "size"),
  [("pred", 1), ("bf16", 2), ("f8e4m3fn", 1), ("u32", 4), ("c64", 8)],
)
def test_types_have_their_width(dtype, size):
  assert Shape(dtype, (3,)).data_bytes == 3 * size


def test_a_program_is_read_before_and_after_it_is_compiled():
  """Before, names have no sign in front of them."""

  def f(x):
    return jnp.sin(x) @ x

  lowered = jax.jit(f).lower(jnp.ones((4, 4)))
  for text in (lowered.as_text(dialect="hlo"), lowered.compile().as_text()):
    module = parse(text)
    lines = [x for c in module.computations.values() for x in c.values()]
    assert "dot" in {x.opcode for x in lines}
    for computation in module.computations.values():
      for line in computation.values():
        if line.opcode not in ("constant", "parameter", "iota"):
          assert line.operands and set(line.operands) <= set(computation)


def test_text_without_entry():
  with pytest.raises(ValueError, match="without ENTRY"):
    parse("HloModule m\n")
