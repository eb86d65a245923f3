# SPDX-License-Identifier: Apache-2.0
import pytest

from lumiere_jax.errors import UserError
from lumiere_jax.profiling.collectives import Collective
from lumiere_jax.profiling.hardware import (
  CHIPS,
  chip_of,
  find_chip,
  roofline,
)
from lumiere_jax.profiling.program import Program


def program(multiplied=0, moved=0, *collectives):
  return Program(multiplied, 0, moved, collectives, 0)


def test_each_resource_takes_its_time_and_the_longest_binds():
  chip = find_chip("v5p")
  near = Collective("collective-permute", (0, 1), 1, 6 * 10**11)
  far = Collective("collective-permute", (0, 64), 1, 5 * 10**10)
  found = roofline(program(4590 * 10**11, 2765 * 10**8, near, far), chip, 64)
  assert found.compute == pytest.approx(1.0)
  assert found.memory == pytest.approx(0.1)
  assert found.interconnect == pytest.approx(1.0)
  assert found.network == pytest.approx(8.0)
  assert (found.binding, found.seconds) == ("network", found.network)
  assert found.rate(4) == pytest.approx(0.5)
  one = roofline(program(4590 * 10**11, 2765 * 10**8, near, far), chip, 128)
  assert one.network == 0.0
  assert one.binding == "interconnect"


@pytest.mark.parametrize(
  ("sizes", "binding"),
  [((10**15, 1), "compute"), ((1, 10**12), "memory")],
)
def test_what_a_program_waits_for(sizes, binding):
  assert roofline(program(*sizes), find_chip("h100"), 8).binding == binding


def test_a_network_of_unknown_speed_takes_an_unknown_time():
  far = Collective("all-reduce", (0, 64), 1, 10**10)
  found = roofline(program(10**12, 10**6, far), find_chip("v4"), 64)
  assert found.network is None
  assert found.binding == "compute"


def test_a_chip_of_two_devices_is_shared():
  chip = find_chip("tpu7x")
  assert chip.devices == 2
  for name in ("flops", "memory", "bandwidth", "interconnect", "network"):
    assert getattr(chip, name) * 2 == getattr(chip, f"chip_{name}")


@pytest.mark.parametrize(
  ("device_kind", "kind"),
  [
    ("TPU v4", "v4"),
    ("TPU v5 lite", "v5e"),
    ("TPU v5", "v5p"),
    ("TPU v5p", "v5p"),
    ("TPU v6 lite", "v6e"),
    ("TPU7x", "tpu7x"),
    ("NVIDIA A100-SXM4-80GB", "a100"),
    ("NVIDIA H100 80GB HBM3", "h100"),
    ("NVIDIA H200", "h200"),
  ],
)
def test_devices_are_known_by_the_name_that_jax_has(device_kind, kind):
  assert chip_of(device_kind) is CHIPS[kind]


def test_other_devices_are_not():
  assert chip_of("cpu") is None
  with pytest.raises(UserError, match=r"'v5'.*choices: a100, h100"):
    find_chip("v5")
