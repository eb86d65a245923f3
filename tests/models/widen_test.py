# SPDX-License-Identifier: Apache-2.0
"""A widened network is the narrow one until it is trained."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.models.stunet import STUNet
from lumiere_jax.models.widen import widen_input
from tests.models import nets


@pytest.mark.parametrize("patch_size", [1, 2])
def test_new_channels_have_no_effect_and_old_ones_their_own(patch_size):
  narrow = dataclasses.replace(nets.IMAGE, patch_size=patch_size)
  wide = dataclasses.replace(narrow, in_channels=7)
  params = nets.randomised(narrow)
  x, *rest = nets.inputs(wide, 2)
  expected = STUNet(narrow).apply({"params": params}, x[..., :3], *rest)
  widened = widen_input(params, wide)
  result = STUNet(wide).apply({"params": widened}, x, *rest)
  np.testing.assert_allclose(result, expected, atol=1e-5)
  # Each new channel has weights of its own to learn.
  kernel = widened["conv_in"]["kernel"]
  rows = kernel.reshape(3, 3, patch_size**2, 7, -1)
  assert not jnp.any(rows[..., 3:, :]) and jnp.all(
    jnp.any(rows[..., :3, :], -1)
  )
