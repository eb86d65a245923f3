# SPDX-License-Identifier: Apache-2.0
"""Which steps are not taken, and how processes agree to stop."""

import enum

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lumiere_jax.config import TrainConfig
from lumiere_jax.shapes import Array, Bool, Float, Int, PyTree
from lumiere_jax.training.state import Guard

# Steps until the average of gradient norms means something.
_SETTLED = 20
_DECAY = 0.99


class Vote(enum.IntEnum):
  """What a process says at a step; the largest of all counts for all."""

  GO = 0
  STOP = 1  # A signal came: save and end.
  FAILED = 2  # It has no batch: this step must not count.


def place_vote(vote: Vote, mesh: Mesh) -> Int[Array, " n"]:
  """Brings this process's vote into a step, one number for each device."""

  def mine(_: tuple[slice, ...]) -> np.ndarray:
    return np.full(1, int(vote), np.int32)

  votes = abstract_votes(mesh)
  return jax.make_array_from_callback(votes.shape, votes.sharding, mine)


def abstract_votes(mesh: Mesh) -> jax.ShapeDtypeStruct:
  """Shape, type and sharding of what `place_vote` returns."""
  sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
  return jax.ShapeDtypeStruct((mesh.size,), jnp.int32, sharding=sharding)


def may_step(
  guard: Guard,
  step: Int[Array, ""],
  loss: Float[Array, ""],
  grad_norm: Float[Array, ""],
  cfg: TrainConfig,
) -> Bool[Array, ""]:
  """Whether a step is taken: all finite, and no spike of the gradient.

  Args:
    guard: of the state before it.
    step: optimizer steps done before it.
    loss: of the batch.
    grad_norm: of the gradient, before clipping.
    cfg: `skip_grad_norm` is how many times the average is a spike; 0 is never.
  """
  good = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
  if cfg.skip_grad_norm:
    spike = grad_norm > cfg.skip_grad_norm * guard.grad_norm
    good &= ~(spike & (step - guard.skipped >= _SETTLED))
  return good


def after(
  guard: Guard,
  step: Int[Array, ""],
  taken: Bool[Array, ""],
  grad_norm: Float[Array, ""],
) -> Guard:
  """The guard after a step that was taken or not."""
  steps = (step - guard.skipped).astype(jnp.float32)
  decay = jnp.minimum(_DECAY, steps / (steps + 1.0))
  norm = decay * guard.grad_norm + (1.0 - decay) * grad_norm
  return guard.replace(
    skipped=guard.skipped + ~taken,
    in_a_row=jnp.where(taken, 0, guard.in_a_row + 1),
    grad_norm=jnp.where(taken, norm, guard.grad_norm),
  )


def only_if(taken: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
  """New values if a step is taken, old ones if not; counts go on either way.

  The learning rate follows the count of all steps.
  """

  def choose(new: Array, old: Array) -> Array:
    if jnp.issubdtype(new.dtype, jnp.integer):
      return new
    return jnp.where(taken, new, old)

  return jax.tree.map(choose, new, old)
