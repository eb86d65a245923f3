# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a recipe, its learning rate and the decay of the average."""

import jax
import jax.numpy as jnp
import optax

from lumiere_jax.config import TrainConfig
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Array, Float, Int, PyTree


def make_optimizer(
  cfg: TrainConfig,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Returns AdamW behind global-norm clipping, and its learning rate by step.

  The rate rises linearly to `cfg.learning_rate` over `cfg.warmup_steps`, then
  falls along a cosine to `cfg.final_learning_rate` of it at `cfg.steps`.

  Raises:
    UserError: a warm-up that is not shorter than the run.

  References:
    Loshchilov and Hutter, arXiv 1711.05101 (AdamW) and 1608.03983 (cosine).
  """
  if cfg.warmup_steps >= cfg.steps:
    raise UserError(
      f"train.warmup_steps={cfg.warmup_steps} must be less than "
      f"train.steps={cfg.steps}"
    )
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=cfg.learning_rate,
    warmup_steps=cfg.warmup_steps,
    decay_steps=cfg.steps,
    end_value=cfg.learning_rate * cfg.final_learning_rate,
  )
  tx = optax.chain(
    optax.clip_by_global_norm(cfg.clip_norm),
    optax.adamw(
      schedule,
      b1=cfg.b1,
      b2=cfg.b2,
      weight_decay=cfg.weight_decay,
      mask=is_kernel,
    ),
  )
  return tx, schedule


def is_kernel(params: PyTree) -> PyTree:
  """Returns for each leaf whether it is a kernel, the only kind that decays."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1].key == "kernel", params
  )


def ema_decay(step: Int[Array, ""], decay: float) -> Float[Array, ""]:
  """Returns min(decay, (1 + step) / (10 + step)) for `step` steps done.

  The average of a young run must forget its random start quickly.
  """
  step = jnp.asarray(step, jnp.float32)
  return jnp.minimum(decay, (1.0 + step) / (10.0 + step))
