# SPDX-License-Identifier: Apache-2.0
"""What a training run carries from step to step."""

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lumiere_jax import sharding, trees
from lumiere_jax.shapes import PyTree


@flax.struct.dataclass
class Guard:
  """What a run remembers of steps that it did not take.

  Attributes:
    skipped: steps skipped so far, int32.
    in_a_row: of them, without a step taken since, int32.
    rollbacks: returns to a checkpoint, int32; each draws other data and noise.
    grad_norm: running average of the gradient norms of steps taken, fp32.
  """

  skipped: PyTree
  in_a_row: PyTree
  rollbacks: PyTree
  grad_norm: PyTree


@flax.struct.dataclass
class TrainState:
  """The whole state of a run on the devices; also a tree of its shardings.

  Attributes:
    step: optimizer steps done, skipped ones among them, int32.
    params: parameters that train.
    frozen: parameters that do not (the spatial ones of the video stage, section
      3.1; {} in the image stage). They have neither gradient nor moments.
    ema: running average of `params`, in fp32; with a schedule-free optimizer
      of the parameters that are its result.
    opt_state: state of the optax transformation, in fp32.
    guard: of steps that were skipped.
  """

  step: PyTree
  params: PyTree
  frozen: PyTree
  ema: PyTree
  opt_state: PyTree
  guard: Guard


def init_state(
  params: PyTree, frozen: PyTree, tx: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first step.

  Args:
    params: nested dict of the parameters to train.
    frozen: nested dict of the others; shares no leaf path with `params`.
    tx: the optimizer.
  """
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    frozen=frozen,
    ema=as_float32(params),
    opt_state=tx.init(as_float32(params)),
    guard=Guard(
      skipped=jnp.zeros((), jnp.int32),
      in_a_row=jnp.zeros((), jnp.int32),
      rollbacks=jnp.zeros((), jnp.int32),
      grad_norm=jnp.zeros((), jnp.float32),
    ),
  )


def abstract_state(
  params: PyTree, frozen: PyTree, tx: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
  """Shapes, types and shardings of a run's state.

  Args:
    params: as in `init_state`; shapes will do.
    frozen: likewise.
    tx: the optimizer.
    mesh: the devices.
  """
  state = jax.eval_shape(lambda p, f: init_state(p, f, tx), params, frozen)
  return sharding.abstract_tree(state, mesh, sharding.STATE_RULES)


def place_state(
  params: PyTree,
  frozen: PyTree,
  tx: optax.GradientTransformation,
  like: TrainState,
) -> TrainState:
  """Returns the state before the first step, where it shall lie.

  Args:
    params: as in `init_state`; copied.
    frozen: likewise.
    tx: the optimizer.
    like: from `abstract_state`.
  """
  where = shardings_of(like)
  params = sharding.place_tree(params, where.params)
  frozen = sharding.place_tree(frozen, where.frozen)
  # No device ever holds a whole state.
  begin = jax.jit(
    lambda params, frozen: init_state(params, frozen, tx),
    out_shardings=where,
    donate_argnums=(0, 1),
  )
  return begin(params, frozen)


def shardings_of(like: PyTree) -> PyTree:
  """Where the leaves of a tree lie."""
  return jax.tree.map(lambda x: x.sharding, like)


def full_params(state: TrainState) -> PyTree:
  """Returns the network's parameters: those in training and the frozen."""
  return trees.merge(state.params, state.frozen)


def full_ema(state: TrainState) -> PyTree:
  """Returns the parameters to sample with and to ship: average and frozen."""
  return trees.merge(state.ema, state.frozen)


def as_float32(tree: PyTree) -> PyTree:
  """Copies a tree in fp32."""
  return jax.tree.map(lambda x: jnp.array(x, jnp.float32), tree)
