# SPDX-License-Identifier: Apache-2.0
"""What is known of a clip holds during sampling."""

from collections.abc import Callable

from lumiere_jax.diffusion.prediction import Denoise, eps_of
from lumiere_jax.diffusion.schedule import Schedule
from lumiere_jax.shapes import Array


def consistent(
  denoise: Denoise, project: Callable[[Array], Array], schedule: Schedule
) -> Denoise:
  """Makes every predicted clean clip agree with what is known of it.

  The noise is derived from it anew, so that the next noisy clip agrees with
  what is known and the rest is made to fit. For known pixels that is the aim
  of RePaint (arXiv 2201.09865), reached within a step instead of by going back
  and forth; in general it is the null-space projection of arXiv 2212.00490.

  Args:
    denoise: what to wrap.
    project: clean clip (b, ...) to the nearest one that agrees.
    schedule: the noise schedule.
  """

  def wrapped(x, t):
    prediction = denoise(x, t)
    x0 = project(prediction.x0)
    return prediction._replace(x0=x0, eps=eps_of(x0, x, t, schedule))

  return wrapped
