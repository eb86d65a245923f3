# SPDX-License-Identifier: Apache-2.0
"""The feature network beside torch's, and distances by it."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from lumiere_jax import import_weights, parity, trees
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.perceptual import FeatureDistance
from lumiere_jax.features.efficientnet import (
  EfficientNetLite0,
  abstract_params,
)
from lumiere_jax.weights import efficientnet, rules
from tests.fixtures import make_efficientnet_fixtures as maker


@pytest.fixture(scope="module")
def state():
  """Its tensors as torch names them."""
  leaves = trees.flatten(abstract_params())
  shapes = rules.plan_export(leaves, efficientnet.rules(()))
  return {key: maker.tensor(key, leaf.shape) for key, leaf in shapes.items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory, state):
  path = tmp_path_factory.mktemp("features") / "lite0.safetensors"
  rest = {
    "_fc.weight": np.zeros((1000, 1280), np.float32),
    "_fc.bias": np.zeros(1000, np.float32),
    "_bn0.num_batches_tracked": np.zeros((), np.int64),
  }
  save_file({**state, **rest}, path)
  return path


@pytest.fixture(scope="module")
def weights(source):
  out = source.parent / "ours"
  flags = ["--from=efficientnet-lite0", f"--src={source}", f"--out={out}"]
  import_weights.main([*flags, "--skip_parity"])
  return out


def _features(state):
  params = rules.apply_rules(
    state, efficientnet.rules(state), abstract_params()
  )
  frames = maker.frames()
  found = jax.jit(EfficientNetLite0().apply)({"params": params}, frames)
  values = {"pooled": found.pooled}
  for index, tap in enumerate(found.taps):
    values[f"mean_{index}"] = tap.mean(axis=(1, 2))
    values[f"std_{index}"] = tap.std(axis=(1, 2))
  return values


def _check(values, expected):
  assert set(values) == set(expected)
  for name, value in expected.items():
    error = np.abs(values[name] - value).max() / np.abs(value).max()
    assert error < 1e-4, (name, error)


def test_features_are_those_of_torch(state):
  with np.load(maker.PATH) as expected:
    _check(_features(state), dict(expected))


def test_features_are_those_of_torch_live(state):
  pytest.importorskip("torch")
  pytest.importorskip("efficientnet_lite_pytorch")
  _check(_features(state), maker.reference())


def test_parity_is_measured_where_the_package_is_installed(source, weights):
  pytest.importorskip("torch")
  pytest.importorskip("efficientnet_lite_pytorch")
  line = import_weights.parity_line("efficientnet-lite0", source, weights)
  assert float(line.split()[3]) < 1e-4


def test_parity_without_the_package_says_so(source, weights, monkeypatch):
  monkeypatch.setattr(parity.importlib.util, "find_spec", lambda name: None)
  line = import_weights.parity_line("efficientnet-lite0", source, weights)
  assert "torch and efficientnet_lite_pytorch not installed" in line


def test_distance_grows_with_what_is_wrong(weights):
  distance = FeatureDistance.load(str(weights))
  rng = np.random.default_rng(0)
  clip = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
  noise = rng.normal(size=clip.shape)

  def noised(sigma):
    return np.clip(clip + sigma * noise, 0, 255).astype(np.uint8)

  found = [distance(clip, noised(sigma)) for sigma in (0, 8, 64)]
  assert found[0] < 1e-9
  assert 1e-3 < found[1] < found[2]
  # Unit vectors: no more than 4 in each of the five maps.
  assert found[2] < 20
  np.testing.assert_allclose(
    distance(noised(8), clip), found[1], rtol=1e-5, atol=1e-7
  )


def test_distance_of_a_clip_is_the_mean_over_its_frames(weights):
  distance = FeatureDistance.load(str(weights))
  rng = np.random.default_rng(0)
  a, b = rng.integers(0, 256, (2, 3, 32, 32, 3), np.uint8)
  frames = [distance(a[i : i + 1], b[i : i + 1]) for i in range(3)]
  np.testing.assert_allclose(distance(a, b), np.mean(frames), rtol=1e-5)


def test_other_weights_are_no_features(weights, tmp_path):
  with pytest.raises(UserError, match="is no file"):
    import_weights.main(
      ["--from=efficientnet-lite0", f"--src={tmp_path}", f"--out={tmp_path}/o"]
    )
  for path in ("nowhere", "lumiere_jax/assets/demo"):
    with pytest.raises(UserError):
      FeatureDistance.load(path)
