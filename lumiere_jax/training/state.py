# SPDX-License-Identifier: Apache-2.0
"""What a training run carries from step to step."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from lumiere_jax import trees
from lumiere_jax.shapes import PyTree


@flax.struct.dataclass
class TrainState:
  """The whole state of a run on the devices; also a tree of its shardings.

  Attributes:
    step: optimizer steps done, int32.
    params: parameters that train.
    frozen: parameters that do not (the spatial ones of the video stage, section
      3.1; {} in the image stage). They have neither gradient nor moments.
    ema: running average of `params`, in fp32.
    opt_state: state of the optax transformation, in fp32.
  """

  step: PyTree
  params: PyTree
  frozen: PyTree
  ema: PyTree
  opt_state: PyTree


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
  )


def full_params(state: TrainState) -> PyTree:
  """Returns the network's parameters: those in training and the frozen."""
  return trees.merge(state.params, state.frozen)


def full_ema(state: TrainState) -> PyTree:
  """Returns the parameters to sample with and to ship: average and frozen."""
  return trees.merge(state.ema, state.frozen)


def as_float32(tree: PyTree) -> PyTree:
  """Copies a tree in fp32."""
  return jax.tree.map(lambda x: jnp.array(x, jnp.float32), tree)
