# SPDX-License-Identifier: Apache-2.0
"""eps, x0 and v say the same; types and channels are checked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.config import DiffusionConfig, ScheduleConfig
from lumiere_jax.diffusion.prediction import (
  denoiser,
  eps_of,
  from_output,
  target,
)
from lumiere_jax.diffusion.schedule import make_schedule

SCHEDULE = make_schedule(ScheduleConfig())
T = jnp.array([0.0, 300.0, 700.0, 950.0])


def clip(seed):
  return jax.random.normal(jax.random.key(seed), (4, 2, 4, 4, 3))


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_the_target_as_output_gives_back_clip_and_noise(kind):
  x0, eps = clip(0), clip(1)
  x_t = SCHEDULE.add_noise(x0, eps, T)
  output = target(x0, eps, T, SCHEDULE, kind)
  prediction = from_output(output, x_t, T, SCHEDULE, kind, False)
  # Noise is read off an almost clean clip, and the clip off almost only
  # noise, with rounding errors divided by sigma(0) = 0.006, alpha(950) = 0.08.
  np.testing.assert_allclose(prediction.x0, x0, atol=2e-5)
  np.testing.assert_allclose(prediction.eps, eps, atol=2e-4)
  assert prediction.variance is None


def test_eps_to_x0_to_v_to_eps_is_the_identity():
  x_t, t = clip(2), T[1:]
  x_t = x_t[1:]
  eps = clip(3)[1:]
  x0 = from_output(eps, x_t, t, SCHEDULE, "eps", False).x0
  eps_again = from_output(x0, x_t, t, SCHEDULE, "x0", False).eps
  v = target(x0, eps_again, t, SCHEDULE, "v")
  last = from_output(v, x_t, t, SCHEDULE, "v", False)
  np.testing.assert_allclose(last.eps, eps, atol=1e-5)
  np.testing.assert_allclose(last.x0, x0, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(eps_of(x0, x_t, t, SCHEDULE), eps, atol=1e-5)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_bfloat16_outputs_are_used_in_float32(kind):
  x_t = clip(4)
  output = clip(5).astype(jnp.bfloat16)
  ours = from_output(output, x_t, T, SCHEDULE, kind, False)
  wide = from_output(output.astype(jnp.float32), x_t, T, SCHEDULE, kind, False)
  assert ours.x0.dtype == ours.eps.dtype == jnp.float32
  np.testing.assert_array_equal(ours.x0, wide.x0)
  np.testing.assert_array_equal(ours.eps, wide.eps)


def test_learned_variance_is_split_off_and_scaled_to_a_fraction():
  cfg = DiffusionConfig(prediction="eps", variance="learned")
  output = jnp.concatenate([clip(6), jnp.full((4, 2, 4, 4, 3), -0.5)], axis=-1)
  x_t = clip(7)
  prediction = denoiser(lambda x, t: output, SCHEDULE, cfg)(x_t, T)
  plain = from_output(output[..., :3], x_t, T, SCHEDULE, "eps", False)
  np.testing.assert_array_equal(prediction.x0, plain.x0)
  np.testing.assert_array_equal(prediction.variance, 0.25)


def test_wrong_number_of_channels_is_refused():
  with pytest.raises(ValueError, match="has 6 channels, expected 3"):
    from_output(
      jnp.zeros((4, 2, 2, 6)), jnp.zeros((4, 2, 2, 3)), T, SCHEDULE, "v", False
    )
