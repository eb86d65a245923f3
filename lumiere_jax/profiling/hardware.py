# SPDX-License-Identifier: Apache-2.0
"""What accelerators can do at best, and the time that a program takes then."""

from dataclasses import dataclass

from lumiere_jax.errors import UserError, nearest
from lumiere_jax.profiling.program import Program

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Chip:
  """A chip, as its maker describes it; the properties are of one device.

  Attributes:
    kind: as users name it.
    device_kind: how JAX's `Device.device_kind` begins.
    chip_flops: bf16 operations per second.
    chip_memory: bytes that a program may take.
    chip_bandwidth: bytes per second between it and its memory.
    chip_interconnect: bytes per second that it sends to the others of its
      slice or host over all links.
    chip_network: the same to those of other slices or hosts; None is not told.
    devices: that JAX has of one chip.
  """

  kind: str
  device_kind: str
  chip_flops: float
  chip_memory: float
  chip_bandwidth: float
  chip_interconnect: float
  chip_network: float | None
  devices: int = 1

  @property
  def flops(self) -> float:
    return self.chip_flops / self.devices

  @property
  def memory(self) -> float:
    return self.chip_memory / self.devices

  @property
  def bandwidth(self) -> float:
    return self.chip_bandwidth / self.devices

  @property
  def interconnect(self) -> float:
    return self.chip_interconnect / self.devices

  @property
  def network(self) -> float | None:
    return self.chip_network and self.chip_network / self.devices


# Of TPUs, arithmetic and bandwidths are those of the pages "TPU v4", "TPU v5e",
# "TPU v5p", "TPU v6e" and "TPU7x" of docs.cloud.google.com/tpu/docs, November
# 2026; from memory are the adapters of v6e, and the memory bandwidth, the
# interconnect and the network of TPU7x. The pages give the interconnect in both
# directions together: half of it is sent. The memory is what the compiler of
# libtpu 0.0.42 says is available where a program is too large: a little less
# than the page has.
#
# Of GPUs, the numbers are those of NVIDIA's data sheets, from memory (SXM
# modules, without sparsity); NVLink in both directions together, halved. Of
# their memory JAX takes 0.75, unless XLA_PYTHON_CLIENT_MEM_FRACTION says
# otherwise; what cuDNN asks for comes out of it too. The network is that of DGX
# systems: an adapter of 200 (A100) or 400 Gb/s for each GPU.
_CHIPS = (
  Chip(
    kind="v4",
    device_kind="TPU v4",
    chip_flops=275e12,
    chip_memory=30.75 * _GIB,
    chip_bandwidth=1200e9,
    # Six links of 50 GB/s each way (arXiv 2304.01433).
    chip_interconnect=300e9,
    chip_network=None,
  ),
  Chip(
    kind="v5e",
    device_kind="TPU v5 lite",
    chip_flops=197e12,
    chip_memory=15.75 * _GIB,
    chip_bandwidth=819e9,
    chip_interconnect=200e9,
    chip_network=2 * 100e9 / 8 / 8,  # 2 adapters of 100 Gb/s for 8 chips.
  ),
  Chip(
    kind="v5p",
    device_kind="TPU v5",
    chip_flops=459e12,
    chip_memory=95.74 * _GIB,
    chip_bandwidth=2765e9,
    chip_interconnect=600e9,
    chip_network=50e9 / 8,
  ),
  Chip(
    kind="v6e",
    device_kind="TPU v6 lite",
    chip_flops=918e12,
    chip_memory=31.25 * _GIB,
    chip_bandwidth=1638e9,
    chip_interconnect=400e9,
    chip_network=4 * 200e9 / 8 / 8,  # 4 adapters of 200 Gb/s for 8 chips.
  ),
  Chip(
    kind="tpu7x",
    device_kind="TPU7x",
    chip_flops=2307e12,
    chip_memory=2 * 94.75 * _GIB,
    chip_bandwidth=7380e9,
    chip_interconnect=600e9,
    chip_network=100e9 / 8,
    devices=2,
  ),
  Chip(
    kind="a100",
    device_kind="NVIDIA A100",
    chip_flops=312e12,
    chip_memory=0.75 * 80e9,
    chip_bandwidth=2039e9,
    chip_interconnect=300e9,
    chip_network=200e9 / 8,
  ),
  Chip(
    kind="h100",
    device_kind="NVIDIA H100",
    chip_flops=989.4e12,
    chip_memory=0.75 * 80e9,
    chip_bandwidth=3350e9,
    chip_interconnect=450e9,
    chip_network=400e9 / 8,
  ),
  Chip(
    kind="h200",
    device_kind="NVIDIA H200",
    chip_flops=989.4e12,
    chip_memory=0.75 * 141e9,
    chip_bandwidth=4800e9,
    chip_interconnect=450e9,
    chip_network=400e9 / 8,
  ),
)
CHIPS = {chip.kind: chip for chip in _CHIPS}


def find_chip(kind: str) -> Chip:
  """The chip of a name such as "v5p".

  Raises:
    UserError: it is not in the table.
  """
  if kind not in CHIPS:
    raise UserError(f"no accelerator {kind!r}{nearest(kind, CHIPS)}")
  return CHIPS[kind]


def chip_of(device_kind: str) -> Chip | None:
  """The chip of a JAX device by its `device_kind`; None of what is unknown."""
  found = [c for c in _CHIPS if device_kind.startswith(c.device_kind)]
  # "TPU v5 lite" begins as "TPU v5" does.
  return max(found, key=lambda c: len(c.device_kind), default=None)


@dataclass(frozen=True, kw_only=True)
class Roofline:
  """Seconds of one run, were each resource used without a pause.

  They overlap at best, so that the longest is the least that a run can take
  (Williams et al., Roofline, CACM 52(4), 2009).

  Attributes:
    compute: of matrix multiplications and convolutions, in bf16.
    memory: of reading and writing the device's memory.
    interconnect: of what is sent within a slice or host.
    network: of what is sent between them; None if the speed is not told.
  """

  compute: float
  memory: float
  interconnect: float
  network: float | None

  @property
  def seconds(self) -> float:
    return max(self._times().values())

  @property
  def binding(self) -> str:
    """The resource that the run waits for."""
    times = self._times()
    return max(times, key=times.get)

  def rate(self, count: int) -> float:
    """How many a second, where one run makes or trains on so many clips."""
    return count / self.seconds if self.seconds else 0.0

  def _times(self) -> dict[str, float]:
    return {
      "compute": self.compute,
      "memory": self.memory,
      "interconnect": self.interconnect,
      "network": self.network or 0.0,
    }


def roofline(program: Program, chip: Chip, island: int) -> Roofline:
  """The least time that one run of a program takes.

  Args:
    program: of one device.
    chip: what the device is of.
    island: devices that the fast interconnect joins: those of a slice of TPUs
      or of a host of GPUs, one after the other in the mesh.
  """
  near = far = 0.0
  for collective in program.collectives:
    if collective.leaves(island):
      far += collective.sent
    else:
      near += collective.sent
  network = 0.0
  if far:
    network = None if chip.network is None else far / chip.network
  return Roofline(
    compute=program.multiplied / chip.flops,
    memory=program.bytes / chip.bandwidth,
    interconnect=near / chip.interconnect,
    network=network,
  )
