# SPDX-License-Identifier: Apache-2.0
"""Super-resolution in the sampler: what the network is given and told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import media
from lumiere_jax.conditioning.low_res import enlarge, shrink
from lumiere_jax.config import (
  ConditionConfig,
  DiffusionConfig,
  SamplerConfig,
  WindowsConfig,
)
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.inference.generate import Generator, Text

SHAPE = (9, 8, 8, 3)
CONDITION = ConditionConfig(kind="low_res", scale=2)
KEYS = sample_keys(0, [0, 1])
TEXT = Text(np.ones((2, 4, 8), np.float32), np.ones((2, 4), bool))
NEGATIVE = Text(np.zeros((1, 4, 8), np.float32), np.ones((1, 4), bool))
LOW = np.random.default_rng(0).integers(0, 256, (2, 9, 4, 4, 3), np.uint8)


def believes(seen):
  """Predicts the enlarged clip; notes the shapes and levels it was given."""

  def apply(params, x, t, text, mask, level):
    seen.append((x.shape, level.shape))
    jax.debug.callback(lambda v: seen.append(np.asarray(v)), level)
    return x[..., 3:] + 0.0 * text.mean()

  return apply


def generator(seen=None, windows=None, **fields):
  plain = {"name": "ddim", "steps": 3, "guidance": 1.0, "threshold": "none"}
  return Generator(
    believes([] if seen is None else seen),
    SHAPE,
    DiffusionConfig(prediction="x0"),
    SamplerConfig(**(plain | fields)),
    windows,
    CONDITION,
  )


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_network_sees_noise_and_the_enlarged_clip(guidance):
  seen = []
  make = generator(seen, guidance=guidance)
  x = make({}, TEXT, NEGATIVE, KEYS, low=LOW)
  shapes = [entry for entry in seen if isinstance(entry, tuple)]
  assert {shape[-1] for shape, _ in shapes} == {6}
  expected = enlarge(media.to_float(jnp.asarray(LOW)), 2)
  schedule_floor = 0.02  # The least noise level is not quite none.
  np.testing.assert_allclose(x, expected, atol=5 * schedule_floor)


def test_the_level_is_told_and_its_noise_is_there():
  seen = []
  noisy = generator(seen, low_res_level=300)({}, TEXT, NEGATIVE, KEYS, low=LOW)
  levels = [entry for entry in seen if isinstance(entry, np.ndarray)]
  assert levels and all((level == 300).all() for level in levels)
  clean = enlarge(media.to_float(jnp.asarray(LOW)), 2)
  assert float(jnp.std(noisy - clean)) > 0.2


def test_the_second_clip_is_the_same_alone():
  make = generator(low_res_level=300)
  both = make({}, TEXT, NEGATIVE, KEYS, low=LOW)
  one = Text(*(x[1:] for x in TEXT))
  alone = make({}, one, NEGATIVE, KEYS[1:], low=LOW[1:])
  np.testing.assert_allclose(both[1:], alone, atol=1e-6)


@pytest.mark.parametrize("per_call", [1, 2])
def test_windows_see_their_part_of_everything(per_call):
  seen = []
  windows = WindowsConfig(frames=4, overlap=1, per_call=per_call)
  whole = generator(guidance=2.0)({}, TEXT, NEGATIVE, KEYS, low=LOW)
  make = generator(seen, windows, guidance=2.0)
  parts = make({}, TEXT, NEGATIVE, KEYS, low=LOW)
  shapes = {entry[0] for entry in seen if isinstance(entry, tuple)}
  assert {shape[1] for shape in shapes} == {4}
  assert max(shape[0] for shape in shapes) == 2 * 2 * per_call
  np.testing.assert_allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize("name", ["dpmpp_2m", "ddim", "ddpm"])
def test_means_of_blocks_are_the_low_resolution_clip(name):
  """The network believes in noise; its means are put right all the same."""
  make = generator(name=name, low_res_level=300, known_low_res=True)
  x = make({}, TEXT, NEGATIVE, KEYS, low=LOW)
  np.testing.assert_allclose(
    shrink(x, 2), media.to_float(jnp.asarray(LOW)), atol=1e-5
  )


def test_faint_details_vanish_and_others_shrink_by_as_much():
  plain = generator(low_res_level=300)({}, TEXT, NEGATIVE, KEYS, low=LOW)
  make = generator(low_res_level=300, detail_floor=0.1)
  x = make({}, TEXT, NEGATIVE, KEYS, low=LOW)
  large = enlarge(media.to_float(jnp.asarray(LOW)), 2)
  before, after = np.asarray(plain - large), np.asarray(x - large)
  faint = np.abs(before) < 0.1 - 1e-5
  assert 0.1 < faint.mean() < 0.9
  assert np.abs(after[faint]).max() < 1e-5
  np.testing.assert_allclose(
    np.abs(after[~faint]), np.abs(before[~faint]) - 0.1, atol=1e-4
  )
  assert (np.sign(after) == np.sign(before))[~faint].all()
