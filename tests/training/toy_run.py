# SPDX-License-Identifier: Apache-2.0
"""A whole training run with a linear model; a script, to be killed by tests.

python toy_run.py WORKDIR STEPS [KILL_AT]
"""

import dataclasses
import functools
import os
import signal
import sys
import time
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import sharding
from lumiere_jax.checkpoint import Checkpointer
from lumiere_jax.config import TrainConfig
from lumiere_jax.training.log import Logger
from lumiere_jax.training.loop import train
from lumiere_jax.training.optimizer import make_optimizer
from lumiere_jax.training.state import TrainState, init_state
from lumiere_jax.training.step import TrainStep, make_train_step

NUM_TIMESTEPS = 100
WIDTH = 3

CFG = TrainConfig(
  sample_prompts=("a frog",),
  steps=6,
  batch_size=8,
  learning_rate=0.1,
  warmup_steps=2,
  weight_decay=0.1,
  log_every=2,
  checkpoint_every=3,
  keep_checkpoints=2,
)


def params():
  """Of one frozen and one trainable layer."""
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  frozen = {"spatial": {"kernel": draw(WIDTH, WIDTH), "bias": draw(WIDTH)}}
  train = {"temporal": {"kernel": draw(WIDTH, 1), "bias": draw(1)}}
  return train, frozen


def loss_fn(params, batch, keys):
  """Squared error of a linear model under noise drawn for each example."""

  def draw(key):
    noise_key, time_key = jax.random.split(key)
    noise = jax.random.uniform(noise_key, (WIDTH,), minval=-1)
    return noise, jnp.floor(jax.random.uniform(time_key) * NUM_TIMESTEPS)

  noise, t = jax.vmap(draw)(keys)
  x = batch["x"] + noise * (t / NUM_TIMESTEPS)[:, None]
  for name in ("spatial", "temporal"):
    x = x @ params[name]["kernel"] + params[name]["bias"]
  return jnp.square(x[:, 0] - batch["y"]), {"t": t}


class Recorded:
  """An iterator of grain that notes which examples it gave."""

  def __init__(self, iterator, seen):
    self._iterator, self._seen = iterator, seen
    self.get_state = iterator.get_state
    self.set_state = iterator.set_state

  def __next__(self):
    batch = next(self._iterator)
    self._seen.append(batch.pop("id").tolist())
    return batch


def batches(cfg, seen):
  """Reshuffled every epoch; 20 examples, so that epochs end inside batches."""

  def example(i, rng):
    x = np.random.default_rng(i).normal(size=WIDTH)
    x = (x + 0.1 * rng.normal(size=WIDTH)).astype(np.float32)
    return {"id": np.int64(i), "x": x, "y": np.float32(x.sum())}

  data = grain.MapDataset.range(20).seed(cfg.seed).shuffle().repeat()
  data = data.random_map(example).batch(cfg.batch_size)
  reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
  return Recorded(iter(data.to_iter_dataset(reading)), seen)


@dataclasses.dataclass
class Parts:
  state: TrainState
  step: TrainStep


def make(cfg=CFG, *, loss=loss_fn, devices=None, tree=params):
  mesh = sharding.make_mesh(devices)
  tx, schedule = make_optimizer(cfg)
  state = init_state(*tree(), tx)
  shardings = sharding.shard_tree(state, mesh)
  state = sharding.place_tree(state, shardings)
  step = make_train_step(
    loss,
    tx,
    schedule,
    cfg,
    num_timesteps=NUM_TIMESTEPS,
    mesh=mesh,
    state_shardings=shardings,
  )
  return Parts(state, step)


@functools.cache
def compiled_step(cfg):
  """Shared by the runs of a process: it has no state, and compiling is slow."""
  return make(cfg).step


def run(workdir, cfg=CFG, hooks=(), seen=None):
  """Begins or resumes the run in a folder; returns its last state.

  Args:
    seen: gets the example numbers of each batch.
  """
  state = make(cfg).state
  step = compiled_step(dataclasses.replace(cfg, sample_every=0))
  data = batches(cfg, [] if seen is None else seen)
  logger = Logger(workdir, cfg)
  checkpointer = Checkpointer(
    Path(workdir) / "checkpoints",
    {"train": dataclasses.asdict(cfg)},
    "toy",
    keep=cfg.keep_checkpoints,
  )
  state = checkpointer.restore(state, {"data": data, "log": logger})
  state = train(state, step, data, checkpointer, logger, cfg, hooks)
  checkpointer.close()
  return state


def main(workdir, steps, kill_at=0):
  def kill(_, step):
    if step == kill_at:
      while not list(Path(workdir).glob("checkpoints/3/commit_success.txt")):
        time.sleep(0.01)
      os.kill(os.getpid(), signal.SIGKILL)

  cfg = dataclasses.replace(CFG, steps=steps, sample_every=1)
  run(workdir, cfg, (kill,))


if __name__ == "__main__":
  main(sys.argv[1], *map(int, sys.argv[2:]))
