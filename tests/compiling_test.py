# SPDX-License-Identifier: Apache-2.0
"""Compiler options are known to this jaxlib, and take convolutions back."""

import re

import jax
import jax.numpy as jnp
from jax import lax

from lumiere_jax.compiling import compiler_options


def test_convolutions_of_few_channels_are_not_the_library_s():
  def convolve(x, kernel):
    return lax.conv_general_dilated(
      x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  shapes = (8, 16, 16, 32), (3, 3, 32, 32)
  args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes]
  options = compiler_options()
  text = jax.jit(convolve, compiler_options=options).lower(*args).compile()
  entry = text.as_text().partition("ENTRY")[2]
  # That of 0.12 is left to do them.
  of_the_library = jax.__version_info__ >= (0, 12)
  assert ("ynn" in entry) == of_the_library
  assert bool(re.search(r"convolution\(", entry)) != of_the_library
