# SPDX-License-Identifier: Apache-2.0
"""Guidance and thresholding: calls, algebra, ranges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import SamplerConfig, ScheduleConfig
from lumiere_jax.diffusion.guidance import (
  guidance_timesteps,
  guided,
  thresholded,
)
from lumiere_jax.diffusion.prediction import Prediction, from_output, target
from lumiere_jax.diffusion.schedule import make_schedule

SCHEDULE = make_schedule(ScheduleConfig())
X = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 3))
T = jnp.array([300.0, 800.0])
COND = {"text": jnp.array([[[1.0]], [[2.0]]]), "mask": jnp.ones((2, 1), bool)}
EMPTY = {"text": jnp.zeros((1, 1, 1)), "mask": jnp.zeros((1, 1), bool)}


class Network:
  """x + text and, if learned, the text; counts its calls and their batch."""

  def __init__(self, learned=False, dtype=jnp.float32):
    self.batches = []
    self.learned, self.dtype = learned, dtype

  def __call__(self, x, t, cond):
    assert t.shape == cond["mask"].shape[:1] == x.shape[:1]
    self.batches.append(len(x))
    text = jnp.broadcast_to(cond["text"].reshape(-1, 1, 1, 1, 1), x.shape)
    out = x * (1 + t.reshape(text[..., :1, :1, :1, :1].shape) / 1000) + text
    out = jnp.concatenate([out, text], -1) if self.learned else out
    return out.astype(self.dtype)


def test_scale_1_is_one_call_on_the_single_batch():
  network = Network()
  output = guided(network, COND, EMPTY, 1.0)(X, T)
  assert network.batches == [2]
  np.testing.assert_array_equal(output, Network()(X, T, COND))


@pytest.mark.parametrize("scale", [0.0, 4.0])
def test_other_scales_are_one_call_on_the_double_batch(scale):
  network = Network()
  output = guided(network, COND, EMPTY, scale)(X, T)
  assert network.batches == [4]
  positive = Network()(X, T, COND)
  negative = positive - COND["text"].reshape(2, 1, 1, 1, 1)
  np.testing.assert_allclose(
    output, negative + scale * (positive - negative), rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_interval_guides_the_samples_inside_it(rescale):
  output = guided(Network(), COND, EMPTY, 4.0, rescale, (200.0, 500.0))(X, T)
  everywhere = guided(Network(), COND, EMPTY, 4.0, rescale)(X, T)
  np.testing.assert_allclose(output[0], everywhere[0], rtol=1e-5)
  plain = guided(Network(), COND, EMPTY, 1.0)(X, T)
  np.testing.assert_allclose(output[1], plain[1], rtol=1e-5)


@pytest.mark.parametrize("low, batch", [(250.0, 4), (800.0, 4), (801.0, 2)])
def test_outside_the_interval_the_batch_is_single(low, batch):
  def network(x, t, cond):
    return jnp.full_like(x, len(x))

  output = guided(network, COND, EMPTY, 1.5, interval=(low, 1000.0))(X, T)
  np.testing.assert_array_equal(output, float(batch))


def test_interval_is_given_in_shares_of_the_schedule():
  half = SamplerConfig(guidance_interval=(0.5, 1.0))
  assert guidance_timesteps(half, SCHEDULE) == (500.0, 1000.0)
  assert guidance_timesteps(SamplerConfig(), SCHEDULE) is None


def test_learned_variance_is_the_conditional_one():
  output = guided(Network(learned=True), COND, EMPTY, 5.0)(X, T)
  assert output.shape[-1] == 6
  np.testing.assert_array_equal(output[0, ..., 3:], 1.0)
  np.testing.assert_array_equal(output[1, ..., 3:], 2.0)


@pytest.mark.parametrize("guide_scale", [1.0, 1.5])
def test_guidance_is_the_same_for_every_kind_of_prediction(guide_scale):
  clips = [jax.random.normal(jax.random.key(k), X.shape) for k in (1, 2)]
  worse = jax.random.normal(jax.random.key(3), X.shape)
  results = {}
  for kind in ("eps", "x0", "v"):

    def network(x, t, cond, kind=kind):
      x0 = jnp.where(cond.reshape(-1, 1, 1, 1, 1), *clips_of(x))
      eps = from_output(x0, x, t, SCHEDULE, "x0", False).eps
      return target(x0, eps, t, SCHEDULE, kind)

    def guide(x, t, cond, kind=kind):
      eps = from_output(worse, x, t, SCHEDULE, "x0", False).eps
      return target(worse, eps, t, SCHEDULE, kind)

    def clips_of(x):
      return [jnp.repeat(c, len(x) // 2, axis=0) for c in clips]

    output = guided(
      network,
      jnp.ones((2, 1), bool),
      jnp.zeros((1, 1), bool),
      3.0,
      guide=guide,
      guide_scale=guide_scale,
    )
    results[kind] = from_output(output(X, T), X, T, SCHEDULE, kind, False).x0
  expected = clips[1] + 3.0 * (clips[0] - clips[1])
  expected += (guide_scale - 1.0) * (clips[0] - worse)
  for result in results.values():
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("phi", [0.7, 1.0])
def test_rescale_takes_the_conditional_deviation_per_sample(phi):
  def network(x, t, cond):
    return x * cond.reshape(-1, 1, 1, 1, 1)

  cond, empty = jnp.array([[1.5], [2.0]]), jnp.array([[0.5]])
  plain = guided(network, cond, empty, 4.0)(X, T)
  rescaled = guided(network, cond, empty, 4.0, rescale=phi)(X, T)
  # uncond + 4 (cond - uncond) = 4.5 X and 6.5 X.
  factor = phi * np.array([1.5 / 4.5, 2.0 / 6.5]) + (1 - phi)
  np.testing.assert_allclose(
    rescaled, plain * factor.reshape(2, 1, 1, 1, 1), rtol=1e-5
  )


def test_half_precision_outputs_are_combined_in_float32():
  network = Network(dtype=jnp.bfloat16)
  output = guided(network, COND, EMPTY, 3.0)(X, T)
  assert output.dtype == jnp.float32
  positive = Network(dtype=jnp.bfloat16)(X, T, COND).astype(jnp.float32)
  nothing = {"text": 0 * COND["text"], "mask": COND["mask"]}
  negative = Network(dtype=jnp.bfloat16)(X, T, nothing).astype(jnp.float32)
  np.testing.assert_array_equal(output, negative + 3 * (positive - negative))


class Random:
  """A random layer of clip, timestep and text; notes the batch of each call."""

  def __init__(self, seed, channels=3):
    self.weights = np.random.default_rng(seed).normal(size=(5, channels))
    self.batches = []

  def __call__(self, x, t, cond):
    self.batches.append(len(x))
    each = (t / 1000, cond["text"].reshape(-1))
    each = [
      jnp.broadcast_to(v[:, None, None, None, None], x.shape) for v in each
    ]
    inputs = jnp.concatenate([x, *(v[..., :1] for v in each)], -1)
    return jnp.tanh(inputs @ self.weights.astype(np.float32))


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_guide_scale_1_does_not_call_the_guide(scale):
  network, guide = Random(0), Random(1)
  output = guided(network, COND, EMPTY, scale, guide=guide, guide_scale=1.0)
  np.testing.assert_array_equal(
    output(X, T), guided(network, COND, EMPTY, scale)(X, T)
  )
  assert guide.batches == []


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("guide_scale", [1.25, 3.0])
def test_autoguidance_is_added_to_text_guidance(scale, guide_scale):
  network, guide = Random(0), Random(1)
  output = guided(
    network, COND, EMPTY, scale, guide=guide, guide_scale=guide_scale
  )(X, T)
  # One call of each; of the network on both halves only with text guidance.
  assert network.batches == [2 if scale == 1.0 else 4]
  assert guide.batches == [2]
  nothing = {"text": 0 * COND["text"], "mask": COND["mask"]}
  positive, negative, worse = (
    np.asarray(net(X, T, cond), np.float64)
    for net, cond in ((network, COND), (network, nothing), (guide, COND))
  )
  expected = positive + (scale - 1) * (positive - negative)
  expected += (guide_scale - 1) * (positive - worse)
  np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-5)
  assert np.abs(positive - worse).max() > 0.1


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("more", [(), (0.7,), (0.7, (200.0, 500.0))])
def test_a_guide_that_is_the_network_itself_changes_nothing(scale, more):
  plain = guided(Random(0), COND, EMPTY, scale, *more)(X, T)
  same = dict(guide=Random(0), guide_scale=3.0)
  output = guided(Random(0), COND, EMPTY, scale, *more, **same)(X, T)
  np.testing.assert_allclose(output, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_the_guide_is_called_inside_the_interval_only(scale):
  options = dict(guide_scale=2.0, rescale=0.3)
  plain = guided(Random(0), COND, EMPTY, 1.0)(X, T)
  everywhere = guided(
    Random(0), COND, EMPTY, scale, guide=Random(1), **options
  )(X, T)
  # The second sample's timestep is 800.
  for low, high, led in ((200.0, 500.0, [0]), (801.0, 1000.0, [])):
    network, guide = Random(0), Random(1)
    output = guided(
      network, COND, EMPTY, scale, interval=(low, high), guide=guide, **options
    )
    with jax.disable_jit():  # Only the branch that is taken is called.
      result = output(X, T)
    assert guide.batches == [2] * len(led)
    assert network.batches == [4 if led and scale != 1.0 else 2]
    for i in range(2):
      want = everywhere if i in led else plain
      np.testing.assert_allclose(result[i], want[i], rtol=1e-4, atol=1e-5)


def test_rescale_is_of_the_sum_of_both():
  def times(factor):
    return lambda x, t, cond: factor * x * cond.reshape(-1, 1, 1, 1, 1)

  cond, empty = jnp.array([[1.5], [2.0]]), jnp.array([[0.5]])
  output = guided(
    times(1.0), cond, empty, 4.0, 0.7, guide=times(0.5), guide_scale=3.0
  )(X, T)
  # uncond + 4 (cond - uncond) + 2 (cond - cond / 2) = 6 X and 8.5 X.
  factor = 0.7 * np.array([1.5, 2.0]) + 0.3 * np.array([6.0, 8.5])
  np.testing.assert_allclose(
    output, X * factor.reshape(2, 1, 1, 1, 1), rtol=1e-5
  )


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_learned_variance_is_not_the_guides(scale):
  """Which may have none."""
  network = Random(0, channels=6)
  for channels in (3, 6):
    output = guided(
      network,
      COND,
      EMPTY,
      scale,
      guide=Random(1, channels),
      guide_scale=2.0,
    )(X, T)
    assert output.shape[-1] == 6 and output.dtype == jnp.float32
    np.testing.assert_allclose(
      output[..., 3:], network(X, T, COND)[..., 3:], rtol=1e-5, atol=1e-6
    )


def threshold(x0, **options):
  cfg = SamplerConfig(**options)
  variance = jnp.full_like(x0, 0.5)
  denoise = thresholded(
    lambda x, t: Prediction(x0, jnp.zeros_like(x0), variance), SCHEDULE, cfg
  )
  prediction = denoise(X, T)
  np.testing.assert_array_equal(prediction.variance, variance)
  # Whatever x0 has become, x0 and eps still make up x_t.
  again = SCHEDULE.add_noise(prediction.x0, prediction.eps, T)
  np.testing.assert_allclose(again, X, atol=1e-5)
  return prediction.x0


def test_static_thresholding_clips():
  np.testing.assert_array_equal(
    threshold(2 * X, threshold="static"), np.clip(2 * X, -1, 1)
  )


def test_dynamic_thresholding_uses_each_clips_quantile():
  x0 = X * jnp.array([0.1, 0.5]).reshape(2, 1, 1, 1, 1)
  result = threshold(
    x0, threshold="dynamic", threshold_quantile=0.9, threshold_max=1e6
  )
  np.testing.assert_array_equal(result[0], x0[0])  # within [-1, 1]: s = 1
  wide = 8 * x0
  result = threshold(
    wide, threshold="dynamic", threshold_quantile=0.9, threshold_max=1e6
  )
  for sample, clip in zip(result, wide, strict=True):
    s = max(np.quantile(np.abs(clip), 0.9), 1.0)
    np.testing.assert_allclose(sample, np.clip(clip, -s, s) / s, rtol=1e-6)
  assert np.quantile(np.abs(wide[1]), 0.9) > 1.5
  limited = threshold(
    wide, threshold="dynamic", threshold_quantile=0.9, threshold_max=1.5
  )
  np.testing.assert_allclose(
    limited[1], np.clip(wide[1], -1.5, 1.5) / 1.5, rtol=1e-6
  )


def test_no_thresholding_is_no_wrapper():
  denoise = lambda x, t: Prediction(x, x)  # noqa: E731
  cfg = SamplerConfig(threshold="none")
  assert thresholded(denoise, SCHEDULE, cfg) is denoise
