# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.diffusion.quantile import quantile_of_magnitude

X = jax.random.normal(jax.random.key(0), (3, 4, 5, 5, 3))
CASES = {
  "normal": X,
  "tied": jnp.round(2 * X),
  "flat": jnp.full_like(X, -0.5),
  "zero": jnp.zeros_like(X),
  "tiny and huge": X * jnp.logspace(-37, 37, X.size).reshape(X.shape),
}


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.95, 0.995, 1.0])
@pytest.mark.parametrize("name", CASES)
def test_it_is_numpys_of_every_sample(name, q):
  found = jax.jit(lambda x: quantile_of_magnitude(x, q))(CASES[name])
  values = np.abs(np.asarray(CASES[name], np.float64)).reshape(len(X), -1)
  np.testing.assert_allclose(found, np.quantile(values, q, axis=1), rtol=1e-6)


def test_it_sorts_nothing():
  program = jax.jit(lambda x: quantile_of_magnitude(x, 0.95)).lower(X)
  assert "sort" not in program.as_text()
