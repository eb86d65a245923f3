# SPDX-License-Identifier: Apache-2.0
"""Skips for want of what compiles for devices that are not there."""

import importlib.util

import pytest

from lumiere_jax.profiling import topology

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu, which compiles for TPUs, is not installed",
)
needs_gpu_compiler = pytest.mark.skipif(
  not topology._has("jax_plugins.xla_cuda13"),
  reason="JAX's plugin for this accelerator, a GPU, is not installed",
)
