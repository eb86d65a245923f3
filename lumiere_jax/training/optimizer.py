# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a recipe, its learning rate and the decay of the average."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers

from lumiere_jax.config import TrainConfig
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Array, Float, Int, PyTree
from lumiere_jax.training.averages import with_averages

# Kernels that Muon leaves to Adam, as Jordan et al. do with first and last
# layers: their inputs or outputs are pixels, three or six of them.
_NOT_MUON = re.compile(r"(^|/)conv_(in|out)/kernel$")
# Of Muon's updates, what AdamW's have (arXiv 2502.16982, section 2.2).
_RMS = 0.2


def make_optimizer(
  cfg: TrainConfig,
) -> tuple[optax.GradientTransformation, optax.Schedule]:
  """Returns an optimizer behind global-norm clipping, and its learning rate.

  With `cfg.posthoc_ema` it keeps averages of what it trains.

  Raises:
    UserError: as in `learning_rate`.
  """
  rate = learning_rate(cfg)
  clip = optax.clip_by_global_norm(cfg.clip_norm)
  tx = optax.chain(clip, MAKERS[cfg.optimizer](cfg, rate))
  return with_averages(tx, cfg.posthoc_ema) if cfg.posthoc_ema else tx, rate


def learning_rate(cfg: TrainConfig) -> optax.Schedule:
  """Returns the learning rate by step.

  It rises linearly to `cfg.learning_rate` over `cfg.warmup_steps`. "cosine"
  then falls to `cfg.final_learning_rate` of it at `cfg.steps`. "constant" stays
  until `cfg.decay_steps` before that, then falls as 1 - sqrt(share of the decay
  that is done), which ends better than a straight line (Hagele et al., arXiv
  2405.18392, section 4).

  Raises:
    UserError: warm-up and decay that the run is too short for.

  References:
    Loshchilov and Hutter, arXiv 1608.03983 (cosine).
  """
  peak, final = cfg.learning_rate, cfg.final_learning_rate
  if cfg.warmup_steps >= cfg.steps:
    raise UserError(
      f"train.warmup_steps={cfg.warmup_steps} must be less than "
      f"train.steps={cfg.steps}"
    )
  if cfg.warmup_steps + cfg.decay_steps > cfg.steps:
    raise UserError(
      f"train.warmup_steps={cfg.warmup_steps} and train.decay_steps="
      f"{cfg.decay_steps} do not both fit in train.steps={cfg.steps}"
    )
  if cfg.schedule == "cosine":
    return optax.warmup_cosine_decay_schedule(
      init_value=0.0,
      peak_value=peak,
      warmup_steps=cfg.warmup_steps,
      decay_steps=cfg.steps,
      end_value=peak * final,
    )

  def decayed(count):
    done = jnp.clip(count / max(cfg.decay_steps, 1), 0.0, 1.0)
    return peak * (1.0 - (1.0 - final) * jnp.sqrt(done))

  rising = optax.linear_schedule(0.0, peak, cfg.warmup_steps)
  constant = optax.constant_schedule(peak)
  parts, ends = [rising, constant], [cfg.warmup_steps]
  if cfg.decay_steps:
    parts, ends = [*parts, decayed], [*ends, cfg.steps - cfg.decay_steps]
  return optax.join_schedules(parts, ends)


def adamw(
  cfg: TrainConfig, rate: optax.Schedule
) -> optax.GradientTransformation:
  """Returns AdamW (Loshchilov and Hutter, arXiv 1711.05101)."""
  return optax.adamw(
    rate, cfg.b1, cfg.b2, weight_decay=cfg.weight_decay, mask=is_kernel
  )


def muon(
  cfg: TrainConfig, rate: optax.Schedule
) -> optax.GradientTransformation:
  """Returns Muon for kernels and Adam for the rest, at the same rate.

  A kernel is a matrix from all of its axes but the last to the last. The rest
  are biases, scales and the first and last convolution. Both have Nesterov's
  momentum.

  References:
    Jordan et al., Muon, 2024; Liu et al., arXiv 2502.16982 (scale of updates).
  """
  # At rate 1 what is left of its own schedule and decay is the sign.
  direction = optax.contrib.muon(
    1.0,
    adam_b1=cfg.b1,
    adam_b2=cfg.b2,
    muon_weight_dimension_numbers=_as_matrices,
    consistent_rms=_RMS,
  )
  return _descent(optax.chain(direction, optax.scale(-1.0)), cfg, rate)


def lion(
  cfg: TrainConfig, rate: optax.Schedule
) -> optax.GradientTransformation:
  """Returns Lion (Chen et al., arXiv 2302.06675)."""
  return optax.lion(
    rate, cfg.b1, cfg.b2, weight_decay=cfg.weight_decay, mask=is_kernel
  )


def adafactor(
  cfg: TrainConfig, rate: optax.Schedule
) -> optax.GradientTransformation:
  """Returns Adafactor at AdamW's rate: not relative to parameters or steps.

  Without momentum; second moments of kernels of 128 channels and more are kept
  by row and column.

  References:
    Shazeer and Stern, arXiv 1804.04235, sections 3, 6 and 7.
  """
  direction = optax.chain(
    optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)
  )
  return _descent(direction, cfg, rate)


def schedule_free_adamw(
  cfg: TrainConfig, rate: optax.Schedule
) -> optax.GradientTransformation:
  """Returns schedule-free AdamW (Defazio et al., arXiv 2405.15682).

  What trains is where gradients are taken; `averages.evaluation_params` is
  the rest of the method.
  """
  direction = optax.scale_by_rms(
    cfg.b2, eps_in_sqrt=False, bias_correction=True
  )
  return optax.contrib.schedule_free(
    _descent(direction, cfg, rate), rate, b1=cfg.b1
  )


MAKERS: dict[
  str, Callable[[TrainConfig, optax.Schedule], optax.GradientTransformation]
] = {
  maker.__name__: maker
  for maker in (adamw, muon, lion, adafactor, schedule_free_adamw)
}


def _descent(
  direction: optax.GradientTransformation,
  cfg: TrainConfig,
  rate: optax.Schedule,
) -> optax.GradientTransformation:
  """Steps of the rate against a direction, with decoupled weight decay."""
  return optax.chain(
    direction,
    optax.add_decayed_weights(cfg.weight_decay, is_kernel),
    optax.scale_by_learning_rate(rate),
  )


def _as_matrices(params: PyTree) -> PyTree:
  """For each leaf which axes are a matrix's inputs and outputs; None is none.

  None stands for what is not Muon's.
  """

  def axes(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    kernel = path[-1].key == "kernel" and leaf.ndim > 1
    if not kernel or _NOT_MUON.search(name):
      return None
    last = leaf.ndim - 1
    return MuonDimensionNumbers(tuple(range(last)), (last,))

  return jax.tree_util.tree_map_with_path(axes, params)


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
