# SPDX-License-Identifier: Apache-2.0
import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

SETTINGS = (
  "jax_platforms",
  "jax_enable_compilation_cache",
  "jax_optimization_level",
)


@pytest.fixture
def undone():
  """What `topology.prepare` sets up is taken back when the test is over."""
  before = {name: getattr(jax.config, name) for name in SETTINGS}
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
