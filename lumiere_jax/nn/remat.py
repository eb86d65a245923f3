# SPDX-License-Identifier: Apache-2.0
"""What the backward pass keeps of the forward pass, and what it makes again."""

from collections.abc import Callable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

# Values that a policy can name.
_CONV, _PARAMETER = "conv", "parameter"


def conv_output(x: jax.Array) -> jax.Array:
  """Marks the output of a convolution."""
  return checkpoint_name(x, _CONV)


def read_parameter(x: jax.Array) -> jax.Array:
  """Marks a parameter that was brought together from several devices."""
  return checkpoint_name(x, _PARAMETER)


def policy(name: str, *, shared: bool) -> Callable[..., Any] | None:
  """What of a level is kept, for `nn.remat`; None is all of it.

  Args:
    name: `UNetConfig.remat`.
    shared: whether each device has only a part of the parameters; brought
      together they are never kept, or every device would hold all of them.
  """
  policies = jax.checkpoint_policies
  if name == "blocks":
    return policies.nothing_saveable
  if name == "convs":
    return policies.save_only_these_names(_CONV)
  if name == "offload":
    return policies.save_and_offload_only_these_names(
      names_which_can_be_saved=[],
      names_which_can_be_offloaded=[_CONV],
      offload_src="device",
      offload_dst="pinned_host",
    )
  if shared:
    return policies.save_anything_except_these_names(_PARAMETER)
  return None
