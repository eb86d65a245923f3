# SPDX-License-Identifier: Apache-2.0
"""One training stage of a configuration: its step, and what the step takes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lumiere_jax import build, sharding
from lumiere_jax.config import Config
from lumiere_jax.text.encoder import Encoding
from lumiere_jax.training.optimizer import make_optimizer
from lumiere_jax.training.state import TrainState, abstract_state, shardings_of
from lumiere_jax.training.step import TrainStep, make_train_step


class Stage(NamedTuple):
  """What trains.

  Attributes:
    step: compiled when it is first called, or asked to.
    tx: the optimizer.
    like: shapes, types and shardings of the state.
  """

  step: TrainStep
  tx: optax.GradientTransformation
  like: TrainState


def make_stage(cfg: Config, empty: Encoding, mesh: Mesh) -> Stage:
  """Composes a stage; allocates nothing.

  Args:
    cfg: the recipe.
    empty: the encoding of the empty caption, which dropped ones get.
    mesh: the devices, which need not be there.

  Raises:
    UserError: the mesh cannot share out the batch, or the clips.
  """
  parts = build.trainable(cfg, build.abstract_params(cfg.model))
  tx, schedule = make_optimizer(cfg.train)
  like = abstract_state(*parts, tx, mesh)
  step = make_train_step(
    build.loss_fn(cfg, empty, mesh),
    tx,
    schedule,
    cfg.train,
    num_timesteps=cfg.diffusion.schedule.num_train_timesteps,
    mesh=mesh,
    state_shardings=shardings_of(like),
  )
  return Stage(step, tx, like)


def abstract_batch(
  cfg: Config, mesh: Mesh | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes and types of a whole batch of a step, on a mesh also shardings.

  "pixels" (b t h w 3), in the image stage (b h w 3), uint8; "text" (b s d) and
  "mask" (b s).
  """
  b, frames, *size = cfg.train.batch_size, *cfg.data.train_size
  lead = (b, frames) if cfg.train.stage == "video" else (b,)
  text = (b, cfg.text.max_tokens, cfg.model.encoder_hid_dim)
  batch = {
    "pixels": jax.ShapeDtypeStruct((*lead, *size, 3), jnp.uint8),
    "text": jax.ShapeDtypeStruct(text, jnp.float16),
    "mask": jax.ShapeDtypeStruct(text[:2], jnp.bool_),
  }
  return batch if mesh is None else sharding.abstract_examples(batch, mesh)
