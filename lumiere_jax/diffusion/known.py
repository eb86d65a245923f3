# SPDX-License-Identifier: Apache-2.0
"""Known pixels: what is given of a clip holds during sampling."""

from lumiere_jax.diffusion.prediction import Denoise, eps_of
from lumiere_jax.diffusion.schedule import Schedule
from lumiere_jax.shapes import Array, Float


def known_pixels(
  denoise: Denoise,
  clean: Float[Array, "b *dims c"],
  mask: Float[Array, "b *dims 1"],
  schedule: Schedule,
) -> Denoise:
  """Puts what is given into every predicted clean clip.

  The noise is derived from it anew, so that the next noisy clip agrees with
  what is given and the rest is made to fit (the aim of RePaint, arXiv
  2201.09865, reached within a step instead of by going back and forth).

  Args:
    denoise: what to wrap.
    clean: what is given; its value does not matter where mask is 0.
    mask: 1 where it is given.
    schedule: the noise schedule.
  """

  def wrapped(x, t):
    prediction = denoise(x, t)
    x0 = mask * clean + (1.0 - mask) * prediction.x0
    return prediction._replace(x0=x0, eps=eps_of(x0, x, t, schedule))

  return wrapped
