# SPDX-License-Identifier: Apache-2.0
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lumiere_jax.profiling.collectives import Collective
from lumiere_jax.profiling.program import (
  compiler_flops,
  read_lowered,
  read_program,
  read_text,
)

SQUARE = jax.ShapeDtypeStruct((64, 64), jnp.float32)
PRODUCT = 2 * 64**3


def read(f, *shapes):
  return read_program(jax.jit(f).lower(*shapes).compile())


def module(*computations: str, partitions: int = 1) -> str:
  head = f"HloModule m, is_scheduled=true, num_partitions={partitions}"
  return "\n\n".join((head, *computations)) + "\n"


def entry(*lines: str) -> str:
  return "ENTRY %main (p: f32[8,8]) -> f32[8,8] {\n" + body(*lines)


def body(*lines: str) -> str:
  return "\n".join(f"  {line}" for line in lines) + "\n}"


PARAMETER = "%p = f32[8,8]{1,0} parameter(0)"


@pytest.mark.parametrize("turns", [1, 5, 12])
def test_a_loop_counts_as_often_as_it_turns(turns):
  def f(x):
    return jax.lax.scan(lambda c, _: (c @ c, None), x, None, turns)[0]

  compiled = jax.jit(f).lower(SQUARE).compile()
  program = read_program(compiled)
  assert program.multiplied == turns * PRODUCT
  assert program.unknown_loops == 0
  assert compiler_flops(compiled) < 1.1 * PRODUCT  # XLA counts it once.
  assert read_lowered(jax.jit(f).lower(SQUARE)).multiplied == turns * PRODUCT


def test_loops_inside_of_loops_and_the_larger_branch():
  def inner(x):
    return jax.lax.fori_loop(0, 3, lambda _, y: y @ y, x)

  def f(x):
    def turn(c, _):
      return jax.lax.cond(c[0, 0] > 0, inner, lambda y: y @ y, c), None

    return jax.lax.scan(turn, x, None, length=4)[0]

  assert read(f, SQUARE).multiplied == 4 * 3 * PRODUCT


def test_a_loop_of_unknown_length_is_counted_once_and_told():
  def f(x, n):
    return jax.lax.fori_loop(0, n, lambda _, y: y @ y, x)

  program = read(f, SQUARE, jax.ShapeDtypeStruct((), jnp.int32))
  assert program.multiplied == PRODUCT
  assert program.unknown_loops == 1


def test_without_loops_it_is_what_xla_counts():
  def f(x, y):
    return jax.nn.gelu(x @ y).sum(0) + (x > y).mean()

  compiled = jax.jit(jax.grad(lambda x, y: f(x, y).sum())).lower(SQUARE, SQUARE)
  compiled = compiled.compile()
  program = read_program(compiled)
  assert program.flops == pytest.approx(compiler_flops(compiled), rel=0.01)
  bytes_accessed = compiled.cost_analysis()["bytes accessed"]
  assert program.bytes == pytest.approx(bytes_accessed, rel=0.02)
  assert program.intensity == program.flops / program.bytes


def test_a_scan_reads_its_slices_not_the_stack():
  def f(stack):
    return jax.lax.scan(lambda c, x: (c @ x, None), jnp.eye(64), stack)[0]

  def moved(n):
    return read(f, jax.ShapeDtypeStruct((n, 64, 64), jnp.float32)).bytes

  assert moved(64) < 2.2 * moved(32)


def test_a_loop_whose_turns_are_not_written_down():
  """As on TPUs: they follow from its condition and its start."""

  def loop(limit, start, direction="LT"):
    return module(
      "%body (t: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {\n"
      + body(
        "%t = (s32[], f32[8,8]{1,0}) parameter(0)",
        "%i = s32[] get-tuple-element(%t), index=0",
        "%one = s32[] constant(1)",
        "%next = s32[] add(%i, %one)",
        "%x = f32[8,8]{1,0} get-tuple-element(%t), index=1",
        "%d = f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, "
        "rhs_contracting_dims={0}",
        "ROOT %r = (s32[], f32[8,8]{1,0}) tuple(%next, %d)",
      ),
      "%condition (t.1: (s32[], f32[8,8])) -> pred[] {\n"
      + body(
        "%t.1 = (s32[], f32[8,8]{1,0}) parameter(0)",
        "%i.1 = s32[]{:T(128)} get-tuple-element(%t.1), index=0",
        f"%n = s32[]{{:T(128)}} constant({limit})",
        f"ROOT %lt = pred[] compare(%i.1, %n), direction={direction}",
      ),
      entry(
        PARAMETER,
        f"%zero = {start}",
        "%init = (s32[], f32[8,8]{1,0}) tuple(%zero, /*index=1*/%p)",
        "%w = (s32[], f32[8,8]{1,0}) while(%init), condition=%condition, "
        "body=%body",
        "ROOT %g = f32[8,8]{1,0} get-tuple-element(%w), index=1",
      ),
    )

  one = 2 * 8**3
  zero = "s32[] constant(0)"
  assert read_text(loop(9, zero)).multiplied == 9 * one
  assert read_text(loop(9, "s32[] constant(4)")).multiplied == 5 * one
  assert read_text(loop(9, zero, "LE")).multiplied == 10 * one
  assert read_text(loop(0, zero)).multiplied == 0
  unknown = read_text(loop(9, "s32[] parameter(1)"))
  assert (unknown.multiplied, unknown.unknown_loops) == (one, 1)


def test_on_chip_memory_costs_nothing():
  def copy(result):
    return module(
      entry(PARAMETER, f"ROOT %c = f32[8,8]{{1,0{result}}} copy(%p)")
    )

  assert read_text(copy("")).bytes == 2 * 256
  assert read_text(copy(":S(1)")).bytes == 256


def test_what_runs_beside_is_counted_once():
  text = module(
    "%called (q: f32[8,8]) -> f32[16,8] {\n"
    + body(
      "%q = f32[8,8]{1,0} parameter(0)",
      "ROOT %g = f32[16,8]{1,0} all-gather(%q), dimensions={0}, "
      "replica_groups={{0,1},{2,3}}",
    ),
    entry(
      PARAMETER,
      "%s = ((f32[8,8]{1,0}), f32[16,8]{1,0}) call-start(%p), to_apply=%called",
      "ROOT %d = f32[16,8]{1,0} call-done(%s)",
    ),
    partitions=4,
  )
  program = read_text(text)
  assert program.collectives == (Collective("all-gather", (0, 1), 1, 512),)
  assert program.bytes == 256 + 512


def one_collective(line: str, partitions: int = 8) -> Collective:
  text = module(entry(PARAMETER, f"ROOT {line}"), partitions=partitions)
  (found,) = read_text(text).collectives
  return found


@pytest.mark.parametrize(
  ("groups", "members"),
  [
    ("{{0,2},{1,3}}", (0, 2)),
    ("[4,2]<=[8]", (0, 1)),
    ("[4,2]<=[2,4]T(1,0)", (0, 4)),
    ("mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
    ("mesh['a'=2,'b'=4] {'a'}", (0, 4)),
    ("mesh['a'=2,'b'=4] {'a','b'}", tuple(range(8))),
    ("mesh['a'=2,'b'=4] {'b':(1)2}", (0, 2)),
    ("mesh['a'=2,'b'=4] {'b':(2)2}", (0, 1)),
    ("{}", tuple(range(8))),
  ],
)
def test_groups_are_written_in_many_ways(groups, members):
  found = one_collective(
    f"%r = f32[8,8]{{1,0}} all-reduce-start(%p), replica_groups={groups}, "
    "to_apply=%add"
  )
  assert found == Collective("all-reduce", members, 1, 256)


def test_a_tpu_scatters_inside_of_a_fusion():
  text = module(
    "%all-reduce-scatter.1 (q: f32[8,8]) -> f32[2,8] {\n"
    + body(
      "%q = f32[8,8]{1,0} parameter(0)",
      "%r = f32[8,8]{1,0} all-reduce(%q), replica_groups={{0,1,2,3}}, "
      "to_apply=%add",
      "%i = s32[] constant(0)",
      "ROOT %s = f32[2,8]{1,0} dynamic-slice(%r, %i, %i), "
      "dynamic_slice_sizes={2,8}",
    ),
    entry(
      PARAMETER,
      "ROOT %f = f32[2,8]{1,0} fusion(%p), kind=kCustom, "
      "calls=%all-reduce-scatter.1",
    ),
    partitions=4,
  )
  (found,) = read_text(text).collectives
  assert found == Collective("reduce-scatter", (0, 1, 2, 3), 1, 256)


@pytest.mark.parametrize(
  ("slices", "members"), [("1,2", (0, 16)), ("1:3", (0, 16, 32))]
)
def test_what_leaves_a_slice_is_sent_to_the_host(slices, members):
  found = one_collective(
    "%s = (f32[8,8]{1,0}, u32[], token[]) send(%p, %after), channel_id=3, "
    "is_host_transfer=true, frontend_attributes={"
    f'_xla_megascale_target="{{{slices}}}x{{0:15}}",'
    '_xla_megascale_transfer_type="ALL_REDUCE"}',
    partitions=16,
  )
  assert found == Collective("all-reduce", members, 1, 256)
  assert found.leaves(16)


def test_what_a_device_sends():
  def sent(kind, members=(0, 1, 2, 3)):
    return Collective(kind, members, 1, 1200).sent

  assert sent("all-reduce") == 2 * 900
  assert sent("all-gather") == sent("reduce-scatter") == 900
  assert sent("all-to-all") == 900
  assert sent("collective-permute", (0, 1)) == 1200
  assert not Collective("all-gather", (0, 1), 1, 8).leaves(2)
  assert Collective("all-gather", (1, 2), 1, 8).leaves(2)


@pytest.mark.devices(8)
def test_collectives_of_eight_devices():
  devices = np.array(jax.devices()).reshape(2, 4)
  mesh = jax.sharding.Mesh(devices, ("a", "b"))
  x = jax.ShapeDtypeStruct(
    (16, 64), jnp.float32, sharding=jax.NamedSharding(mesh, P("a"))
  )
  whole = 8 * 64 * 4  # Bytes of a device's part.

  def collectives(f, turns=1):
    def repeated(x):
      return jax.lax.fori_loop(0, turns, lambda _, y: y + f(x).sum(), x)

    shared = jax.shard_map(
      repeated, mesh=mesh, in_specs=P("a"), out_specs=P("a"), check_vma=False
    )
    return read(shared, x).collectives

  lax, b, four = jax.lax, "b", (0, 1, 2, 3)
  ring = [(i, (i + 1) % 4) for i in range(4)]
  for f, kind, members, moved in (
    (lambda x: lax.psum(x, b), "all-reduce", four, whole),
    (lambda x: lax.psum(x, "a"), "all-reduce", (0, 4), whole),
    (
      functools.partial(lax.all_gather, axis_name=b),
      "all-gather",
      four,
      4 * whole,
    ),
    (
      lambda x: lax.psum_scatter(x, b, scatter_dimension=1, tiled=True),
      "reduce-scatter",
      four,
      whole,
    ),
    (
      lambda x: lax.all_to_all(x, b, 1, 0, tiled=True),
      "all-to-all",
      four,
      whole,
    ),
    (lambda x: lax.ppermute(x, b, ring), "collective-permute", (0, 3), whole),
  ):
    assert collectives(f) == (Collective(kind, members, 1, moved),)

  def turn(y, _):
    return lax.psum(y * 2, b), None

  def loop(x):
    return lax.scan(turn, x, None, length=7)[0]

  assert collectives(loop) == (Collective("all-reduce", four, 7, 7 * whole),)


def test_text_that_is_none():
  with pytest.raises(ValueError, match="no text of an HLO module"):
    read_text("module @jit_f {}")
