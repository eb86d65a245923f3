# SPDX-License-Identifier: Apache-2.0
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from lumiere_jax import trees
from lumiere_jax.profiling.memory import (
  NOT_TOLD,
  ProgramMemory,
  device_bytes,
  needed_bytes,
  program_memory,
  state_memory,
)
from lumiere_jax.training.optimizer import make_optimizer
from lumiere_jax.training.state import init_state
from tests.profiling import steps


def state(params, frozen):
  tx, _ = make_optimizer(steps.config("clip").train)
  return jax.eval_shape(lambda p, f: init_state(p, f, tx), params, frozen)


def test_a_state_whole_on_one_device():
  params = {"kernel": jax.ShapeDtypeStruct((10, 4), jnp.bfloat16)}
  frozen = {"bias": jax.ShapeDtypeStruct((6,), jnp.bfloat16)}
  memory = state_memory(state(params, frozen))
  assert (memory.parameters, memory.frozen, memory.ema) == (80, 12, 160)
  # Two moments in fp32, and a few counts of 4 bytes.
  assert 320 < memory.optimizer <= 320 + 16
  assert memory.total == 80 + 12 + 160 + memory.optimizer


@pytest.mark.devices(8)
def test_a_sharded_state_counts_one_device_only():
  mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))

  def place(leaf):
    spec = P(None, "b") if leaf.ndim == 2 else P()
    return jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=jax.NamedSharding(mesh, spec)
    )

  params = {"kernel": jax.ShapeDtypeStruct((10, 4), jnp.float32)}
  whole = state(params, {})
  sharded = jax.tree.map(place, whole)
  one, all_ = state_memory(sharded), state_memory(whole)
  assert (one.parameters, one.frozen, one.ema) == (40, 0, 40)
  assert all_.optimizer - one.optimizer == 2 * 3 * 40
  arrays = jax.device_put(jnp.ones((10, 4)), sharded.params["kernel"].sharding)
  assert device_bytes(arrays) == 40


def test_a_program_of_a_cpu_is_the_sum_of_its_parts():
  @jax.jit
  def f(x):
    return jnp.sort(jnp.sin(x) @ x, axis=0).sum(0)

  x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
  memory = program_memory(f.lower(x).compile(), "cpu")
  assert memory.arguments == 64 * 64 * 4
  assert memory.output == 64 * 4
  assert memory.temporaries >= 64 * 64 * 4
  assert memory.peak == sum(
    (memory.arguments, memory.output, memory.temporaries)
  )


def test_what_is_donated_is_counted_once():
  f = jax.jit(lambda x: x + 1, donate_argnums=0)
  x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
  memory = program_memory(f.lower(x).compile(), "cpu")
  assert (memory.arguments, memory.output) == (64 * 64 * 4, 0)


def stats(**fields):
  sizes = dict(
    argument_size_in_bytes=100,
    output_size_in_bytes=50,
    alias_size_in_bytes=40,
    temp_size_in_bytes=900,
  )
  found = types.SimpleNamespace(**sizes, **fields)
  return types.SimpleNamespace(memory_analysis=lambda: found)


def test_an_accelerators_peak_is_taken_where_it_is_told():
  sizes = stats(peak_memory_in_bytes=500, host_temp_size_in_bytes=70)
  told = program_memory(sizes, "tpu")
  assert told == ProgramMemory(
    arguments=100, output=10, temporaries=390, peak=500, host=70
  )
  untold = program_memory(stats(), "gpu")
  assert (untold.temporaries, untold.peak, untold.host) == (900, None, None)
  none = types.SimpleNamespace(memory_analysis=lambda: None)
  assert program_memory(none, "tpu") == NOT_TOLD


@pytest.mark.parametrize(
  ("text", "size"),
  [
    (
      "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
      "for HLO temporaries (240.00G) exceeds available HBM (15.75G).",
      240 * 2**30,
    ),
    (
      "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory "
      "in memory space hbm. Used 16.5G of 15.75G hbm. Exceeded by 768.00M.",
      16.5 * 2**30,
    ),
    ("RESOURCE_EXHAUSTED: no space left on device", None),
    ("INVALID_ARGUMENT: Used 16.5G of 15.75G hbm", None),
  ],
)
def test_a_program_too_large_tells_its_size(text, size):
  assert needed_bytes(RuntimeError(text)) == size


def test_device_bytes_of_a_network_are_its_parameters():
  params = trees.unflatten(
    {"a/b": jnp.ones((3, 5), jnp.bfloat16), "c": np.ones(7, np.float32)}
  )
  assert device_bytes(params) == 30 + 28
