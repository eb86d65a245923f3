# SPDX-License-Identifier: Apache-2.0
"""CIELAB against published values."""

import numpy as np
import pytest

from lumiere_jax.evaluation.color import rgb_to_lab


@pytest.mark.parametrize(
  ("rgb", "lab"),
  [
    ((255, 255, 255), (100.0, 0.0, 0.0)),
    ((0, 0, 0), (0.0, 0.0, 0.0)),
    ((255, 0, 0), (53.24, 80.09, 67.20)),
    ((0, 255, 0), (87.73, -86.18, 83.18)),
    ((0, 0, 255), (32.30, 79.19, -107.86)),
    ((1, 1, 1), (0.27, 0.0, 0.0)),  # on the straight part near black
  ],
)
def test_known_colours(rgb, lab):
  got = rgb_to_lab(np.array([rgb], np.uint8))[0]
  np.testing.assert_allclose(got, lab, atol=0.02)
