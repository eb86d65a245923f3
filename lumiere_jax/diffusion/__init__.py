# SPDX-License-Identifier: Apache-2.0
"""The diffusion process around a network, which it knows as a function only.

From the network inwards: `guided` makes one function of noisy clip and timestep
out of it, `denoiser` turns its output into a `Prediction`, `thresholded` bounds
that, and `sample` runs it backwards in time.
"""

from lumiere_jax.diffusion.guidance import guided, thresholded
from lumiere_jax.diffusion.loss import diffusion_loss
from lumiere_jax.diffusion.prediction import (
  Denoise,
  Prediction,
  denoiser,
  from_output,
  target,
)
from lumiere_jax.diffusion.sampler import (
  Carry,
  initial_noise,
  make_step,
  sample,
  sample_keys,
  sampling_timesteps,
)
from lumiere_jax.diffusion.schedule import Schedule, make_schedule

__all__ = [
  "Carry",
  "Denoise",
  "Prediction",
  "Schedule",
  "denoiser",
  "diffusion_loss",
  "from_output",
  "guided",
  "initial_noise",
  "make_schedule",
  "make_step",
  "sample",
  "sample_keys",
  "sampling_timesteps",
  "target",
  "thresholded",
]
