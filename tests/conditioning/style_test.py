# SPDX-License-Identifier: Apache-2.0
"""Weights between a model and a style."""

import dataclasses

import jax
import numpy as np
import pytest

from lumiere_jax import build, trees
from lumiere_jax.conditioning.style import interpolate
from lumiere_jax.config import from_dict
from lumiere_jax.errors import UserError
from lumiere_jax.models.stunet import is_temporal
from lumiere_jax.weights import folder
from tests.models import nets

VIDEO = nets.inflated(nets.IMAGE)
PARAMS = nets.randomised(VIDEO)
STYLE = nets.randomised(nets.IMAGE, seed=7)
_, SPATIAL = trees.split(PARAMS, is_temporal)


def test_ends_are_the_two_models_to_the_bit():
  for alpha, tree in ((0.0, SPATIAL), (1.0, STYLE)):
    mixed = interpolate(SPATIAL, STYLE, alpha)
    assert trees.fingerprint(mixed) == trees.fingerprint(tree)


def test_between_them_weights_are_weighted():
  mixed = trees.flatten(interpolate(SPATIAL, STYLE, 0.25))
  style = trees.flatten(STYLE)
  for path, leaf in trees.flatten(SPATIAL).items():
    expected = 0.25 * style[path] + 0.75 * leaf
    np.testing.assert_allclose(mixed[path], expected, atol=1e-6)


def test_a_style_of_another_network_is_refused():
  other = jax.tree.map(lambda x: x[..., :1], STYLE)
  with pytest.raises(UserError, match="the style is of another network"):
    interpolate(SPATIAL, other, 0.5)


@pytest.mark.parametrize("network", [nets.IMAGE, VIDEO])
def test_temporal_weights_stay_whatever_the_style_has(tmp_path, network):
  folder.save(tmp_path / "style", nets.randomised(network, seed=7), {}, "MIT")
  cfg = from_dict({"style": str(tmp_path / "style"), "style_alpha": 0.5})
  styled = trees.flatten(build.styled_params(cfg, PARAMS))
  for path, leaf in trees.flatten(PARAMS).items():
    assert np.array_equal(styled[path], leaf) == is_temporal(path), path


def test_unknown_styles_and_alphas_are_told():
  cfg = from_dict({"weights": "demo", "style": "oil"})
  with pytest.raises(UserError, match="no style 'oil'"):
    build.styled_params(cfg, PARAMS)
  # What sees a part of the clip is no style.
  cfg = from_dict({"weights": "demo", "style": "cond"})
  with pytest.raises(UserError, match=r"no style 'cond'.*: mono, twemoji$"):
    build.styled_params(cfg, PARAMS)
  with pytest.raises(UserError, match=r"style_alpha=1.5 must be in \[0, 1\]"):
    dataclasses.replace(cfg, style_alpha=1.5)
