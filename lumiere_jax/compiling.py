# SPDX-License-Identifier: Apache-2.0
"""How XLA is asked to compile the programs that take all the time."""

import jax
from jax.sharding import Mesh

# In jaxlib 0.10 and 0.11 convolutions of a CPU go to a library that gives each
# core 64 output channels: those of fewer channels run on one core. XLA's own
# share out pixels; that of 0.12 is as fast. Matrix multiplications are left to
# the library.
_OWN_CONVOLUTIONS = {
  "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT"
}


def compiler_options(mesh: Mesh | None = None) -> dict[str, str] | None:
  """Options for `jax.jit` on these devices; None is as JAX does.

  Args:
    mesh: the devices, which need not be there; None is the default one.
  """
  if mesh is None:
    platform = jax.default_backend()
  else:
    platform = mesh.devices.flat[0].platform
  if platform == "cpu" and jax.__version_info__ < (0, 12):
    return _OWN_CONVOLUTIONS
  return None
