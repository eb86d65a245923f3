# SPDX-License-Identifier: Apache-2.0
"""From a network to one that is given more: new input channels (§4.2)."""

import jax.numpy as jnp

from lumiere_jax.config import UNetConfig
from lumiere_jax.shapes import PyTree


def widen_input(params: PyTree, cfg: UNetConfig) -> PyTree:
  """Adds input channels that have no effect yet: their weights are zero.

  So the conditional model starts as the unconditional one.

  Args:
    params: of the same network with fewer `in_channels`.
    cfg: the network with all of them.
  """
  kernel = jnp.asarray(params["conv_in"]["kernel"])
  # Patches: the first convolution sees (row, column, channel) of each.
  *taps, inputs, outputs = kernel.shape
  patch = cfg.patch_size**2
  kernel = kernel.reshape(*taps, patch, inputs // patch, outputs)
  more = cfg.in_channels - inputs // patch
  kernel = jnp.pad(kernel, [(0, 0)] * 3 + [(0, more), (0, 0)])
  kernel = kernel.reshape(*taps, patch * cfg.in_channels, outputs)
  return {**params, "conv_in": {**params["conv_in"], "kernel": kernel}}
