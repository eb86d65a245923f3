# SPDX-License-Identifier: Apache-2.0
"""One optimizer step, compiled once, over all devices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lumiere_jax import sharding
from lumiere_jax.compiling import compiler_options
from lumiere_jax.config import TrainConfig
from lumiere_jax.shapes import Array, Float, Key, PyTree
from lumiere_jax.training.averages import evaluation_params
from lumiere_jax.training.guard import (
  Vote,
  abstract_votes,
  after,
  may_step,
  only_if,
  place_vote,
)
from lumiere_jax.training.optimizer import ema_decay
from lumiere_jax.training.state import TrainState, as_float32, full_params

NUM_BUCKETS = 4

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]
# (all parameters, batch of b examples, b keys) -> loss of each example (b,) and
# {"t": the timestep each was noised to (b,)}. An example's randomness comes
# from its own key, so that it is the same in any split of the batch.
LossFn = Callable[
  [PyTree, Batch, Key], tuple[Float[Array, " b"], dict[str, Array]]
]


@dataclass(frozen=True)
class TrainStep:
  """(state, batch of numpy arrays) -> (next state, metrics).

  The given state is donated: it cannot be used afterwards.

  Attributes:
    jitted: the compiled function of arrays that lie on the devices.
    mesh: the devices.
    batch_size: examples of a batch; what is given are this process's.
  """

  jitted: Any
  mesh: Mesh
  batch_size: int

  def __call__(
    self,
    state: TrainState,
    batch: Mapping[str, np.ndarray],
    vote: Vote = Vote.GO,
  ) -> tuple[TrainState, Metrics]:
    batch = sharding.place_batch(batch, self.mesh, self.batch_size)
    return self.jitted(state, batch, place_vote(vote, self.mesh))

  def lower(
    self, state: TrainState, batch: Mapping[str, Any]
  ) -> jax.stages.Lowered:
    """The step for shapes and where they lie, not yet compiled."""
    return self.jitted.lower(state, batch, abstract_votes(self.mesh))


def make_train_step(
  loss_fn: LossFn,
  tx: optax.GradientTransformation,
  schedule: optax.Schedule,
  cfg: TrainConfig,
  *,
  num_timesteps: int,
  mesh: Mesh,
  state_shardings: PyTree,
) -> TrainStep:
  """Compiles the step lazily; the batch is split over the mesh.

  Randomness is a function of (cfg.seed, step, index in the batch) alone, so a
  resumed run repeats the original. A step with a loss or gradient that is not
  finite, or with a spike of its norm, is skipped: only the counts go on.

  Metrics: loss (mean over the whole batch), loss_sum and loss_count of
  NUM_BUCKETS equal ranges of timesteps, grad_norm (before clipping),
  update_norm, param_norm and lr; vote (the largest of all processes), taken,
  and skipped, in_a_row and rollbacks of the guard.

  Args:
    loss_fn: the loss of each example.
    tx: the optimizer.
    schedule: its learning rate by step, for the metrics.
    cfg: the recipe.
    num_timesteps: T; timesteps are 0..T-1.
    mesh: the devices.
    state_shardings: where the state lies, from `sharding.shard_tree`.

  Raises:
    UserError: a batch size the devices and micro-batches do not divide.
  """
  sharding.check_batch_size(cfg.batch_size, cfg.accumulate, mesh)

  def step(
    state: TrainState, batch: Batch, votes: Array
  ) -> tuple[TrainState, Metrics]:
    key = jax.random.key(cfg.seed + state.guard.rollbacks)
    key = jax.random.fold_in(key, state.step)
    keys = _example_keys(key, cfg.batch_size)
    (losses, t), grads = _gradients(
      loss_fn, state, batch, keys, cfg.accumulate, mesh
    )
    params = as_float32(state.params)
    updates, opt_state = tx.update(grads, state.opt_state, params)
    new = optax.apply_updates(params, updates)
    sums, counts = bucket_losses(losses, t, num_timesteps)
    loss, grad_norm, vote = losses.mean(), optax.tree.norm(grads), votes.max()
    taken = may_step(state.guard, state.step, loss, grad_norm, cfg)
    taken &= vote < Vote.FAILED
    guard = after(state.guard, state.step, taken, grad_norm)
    metrics = {
      "loss": loss,
      "loss_sum": sums,
      "loss_count": counts,
      "grad_norm": grad_norm,
      "update_norm": optax.tree.norm(updates),
      "param_norm": optax.tree.norm(new),
      "lr": jnp.asarray(schedule(state.step), jnp.float32),
      "vote": vote,
      "taken": taken,
      "skipped": guard.skipped,
      "in_a_row": guard.in_a_row,
      "rollbacks": guard.rollbacks,
    }
    after_step = TrainState(
      step=state.step + 1,
      params=jax.tree.map(
        lambda n, old: n.astype(old.dtype), new, state.params
      ),
      frozen=state.frozen,
      ema=optax.incremental_update(
        evaluation_params(opt_state, new),
        state.ema,
        1.0 - ema_decay(state.step, cfg.ema_decay),
      ),
      opt_state=opt_state,
      guard=guard,
    )
    for part in ("params", "ema", "opt_state"):
      kept = only_if(taken, getattr(after_step, part), getattr(state, part))
      after_step = after_step.replace(**{part: kept})
    return after_step, metrics

  jitted = jax.jit(
    step,
    in_shardings=(state_shardings, None, None),
    out_shardings=(state_shardings, sharding.replicated(mesh)),
    donate_argnums=0,
    compiler_options=compiler_options(mesh),
  )
  return TrainStep(jitted, mesh, cfg.batch_size)


def bucket_losses(
  losses: Float[Array, " b"], t: Array, num_timesteps: int
) -> tuple[Float[Array, " buckets"], Float[Array, " buckets"]]:
  """Returns sum and count of the losses in each quarter of the timesteps.

  Args:
    losses: loss of each example.
    t: its timestep, 0..num_timesteps-1, shape (b,).
    num_timesteps: T.
  """
  bucket = jnp.floor(t * NUM_BUCKETS / num_timesteps).astype(jnp.int32)
  member = jax.nn.one_hot(bucket, NUM_BUCKETS)
  return (member * losses[:, None]).sum(0), member.sum(0)


def _example_keys(key: Key, batch_size: int) -> Key:
  return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch_size))


def _gradients(
  loss_fn: LossFn,
  state: TrainState,
  batch: Batch,
  keys: Key,
  accumulate: int,
  mesh: Mesh,
) -> tuple[tuple[Array, Array], PyTree]:
  """Returns losses and timesteps (b,) and the mean loss's fp32 gradient.

  Losses and timesteps are in the order of the micro-batches.
  """

  def mean_loss(params, batch, keys):
    full = full_params(state.replace(params=params))
    losses, aux = loss_fn(full, batch, keys)
    losses = losses.astype(jnp.float32)
    return losses.mean(), (losses, aux["t"])

  def gradient(batch, keys):
    grads, out = jax.grad(mean_loss, has_aux=True)(state.params, batch, keys)
    return as_float32(grads), out

  if accumulate == 1:
    grads, out = gradient(batch, keys)
    return out, grads

  def add(total, micro):
    grads, out = gradient(*micro)
    return jax.tree.map(jnp.add, total, grads), out

  micros = jax.tree.map(
    lambda x: _split(x, accumulate, mesh), (dict(batch), keys)
  )
  zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), state.params)
  total, out = jax.lax.scan(add, zeros, micros)
  grads = jax.tree.map(lambda g: g / accumulate, total)
  losses, t = jax.tree.map(jnp.ravel, out)
  return (losses, t), grads


def _split(x: Array, accumulate: int, mesh: Mesh) -> Array:
  """(b, ...) -> (k, b / k, ...): micro-batch i holds examples i, i+k, ...

  Strided, because contiguous blocks would lie on some of the devices only.
  """
  where = sharding.batch_sharding(mesh, x.ndim, axis=1)
  x = x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1)
  return jax.lax.with_sharding_constraint(x, where)
