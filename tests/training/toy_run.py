# SPDX-License-Identifier: Apache-2.0
"""A whole training run with a linear model; a script, to be killed by tests.

python toy_run.py WORKDIR STEPS [--record=FILE] [what shall go wrong]

Started by several processes at once, they train together.
"""

import argparse
import dataclasses
import functools
import json
import os
import signal
import sys
import time
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import cli, sharding
from lumiere_jax.checkpoint import Checkpointer, Keep
from lumiere_jax.config import MeshConfig, TrainConfig
from lumiere_jax.errors import PREEMPTED
from lumiere_jax.training.log import Logger
from lumiere_jax.training.loop import Parts, train
from lumiere_jax.training.optimizer import make_optimizer
from lumiere_jax.training.phases import Phases
from lumiere_jax.training.snapshots import Snapshots
from lumiere_jax.training.state import (
  TrainState,
  abstract_state,
  place_state,
  shardings_of,
)
from lumiere_jax.training.step import TrainStep, make_train_step

NUM_TIMESTEPS = 100
WIDTH = 4

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


def params(ballast_mb=0):
  """Of one frozen and one trainable layer, and something that takes long."""
  rng = np.random.default_rng(0)

  def draw(*shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)

  frozen = {"spatial": {"kernel": draw(WIDTH, WIDTH), "bias": draw(WIDTH)}}
  if ballast_mb:
    frozen["ballast"] = {"scale": draw(ballast_mb << 18)}
  train = {"temporal": {"kernel": draw(WIDTH, WIDTH), "bias": draw(WIDTH)}}
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
  return jnp.square(x.mean(1) - batch["y"]), {"t": t}


class Data:
  """Batches that are noted; examples of a process's rows only.

  Reshuffled every epoch; 20 examples, so that epochs end inside batches.
  """

  def __init__(self, cfg, seen, rows=None, spoilt=()):
    self._cfg, self._seen, self._spoilt = cfg, seen, spoilt
    self._rows = range(cfg.batch_size) if rows is None else rows
    self.set_state({"batches": 0, "order": 0})

  def __next__(self):
    first = self._at * self._cfg.batch_size
    rows = [self._examples[first + row] for row in self._rows]
    batch = {k: np.stack([row[k] for row in rows]) for k in rows[0]}
    self._at += 1
    self._note(batch.pop("id").tolist())
    if self._at in self._spoilt and not self._order:
      batch["y"] = batch["y"] * np.nan
    return batch

  def _note(self, ids):
    """Whatever came of the step before it, the last note of a step counts."""
    self._seen.append(ids if isinstance(self._seen, list) else [self._at, ids])

  def get_state(self):
    return {"batches": self._at, "order": self._order}

  def set_state(self, state):
    self._at, self._order = state["batches"], state["order"]
    data = grain.MapDataset.range(20).seed(self._cfg.seed + self._order)
    self._examples = data.shuffle().repeat().random_map(example)

  def reorder(self):
    self.set_state({"batches": self._at, "order": self._order + 1})


class Seen:
  """Notes batches in a file."""

  def __init__(self, path):
    self._file = open(path, "a")  # noqa: SIM115

  def append(self, ids):
    print(json.dumps(ids), file=self._file, flush=True)


def example(i, rng):
  x = np.random.default_rng(i).normal(size=WIDTH)
  x = (x + 0.1 * rng.normal(size=WIDTH)).astype(np.float32)
  return {"id": np.int64(i), "x": x, "y": np.float32(x.sum())}


def batches(cfg, seen):
  return Data(cfg, seen)


@dataclasses.dataclass
class Made:
  like: TrainState
  state: TrainState
  step: TrainStep


def make(cfg=CFG, *, loss=loss_fn, devices=None, tree=params, mesh=None):
  mesh = mesh or sharding.make_mesh(devices=devices)
  tx, schedule = make_optimizer(cfg)
  like = abstract_state(*tree(), tx, mesh)
  state = place_state(*tree(), tx, like)
  step = make_train_step(
    loss,
    tx,
    schedule,
    cfg,
    num_timesteps=NUM_TIMESTEPS,
    mesh=mesh,
    state_shardings=shardings_of(like),
  )
  return Made(like, state, step)


@functools.cache
def compiled_step(cfg):
  """Shared by the runs of a process: it has no state, and compiling is slow."""
  return make(cfg).step


def run(
  workdir, cfg=CFG, evaluators=(), seen=None, *, mesh=None, tree=params, **data
):
  """Begins or resumes the run in a folder; returns its last state.

  Args:
    evaluators: called every `cfg.sample_every` steps.
    seen: gets the example numbers of each batch.
  """
  mine = jax.process_index() == 0
  phases = Phases(workdir, timeout=cfg.watchdog_seconds, writes=mine)
  made = make(cfg, mesh=mesh, tree=tree)
  plain = dataclasses.replace(cfg, sample_every=0)
  step = compiled_step(plain) if mesh is None else made.step
  seen = [] if seen is None else seen
  rows = sharding.local_rows(mesh or sharding.make_mesh(), cfg.batch_size)
  checkpointer = Checkpointer(
    Path(workdir) / "checkpoints",
    {"train": dataclasses.asdict(cfg)},
    "toy",
    keep=Keep(cfg.keep_checkpoints, cfg.keep_every_hours, cfg.keep_best),
  )
  logger = Logger(workdir, cfg, phases, writes=mine)
  data = Data(cfg, seen, rows, **data)
  measured = [(cfg.sample_every, evaluator) for evaluator in evaluators]
  parts = Parts(
    step,
    data,
    checkpointer,
    logger,
    phases,
    measured,
    Snapshots(workdir, cfg),
  )
  state = checkpointer.restore(made.like, parts.hosts) or made.state
  state = train(state, parts, cfg)
  checkpointer.close()
  return state


def main(argv):
  parser = argparse.ArgumentParser()
  parser.add_argument("workdir")
  parser.add_argument("steps", type=int)
  parser.add_argument("--record", help="gets state, examples seen and status")
  parser.add_argument("--seen", help="gets a line for each batch")
  parser.add_argument("--fsdp", type=int, default=1)
  parser.add_argument("--slices", type=int, default=1)
  parser.add_argument("--checkpoint_every", type=int, default=3)
  parser.add_argument("--ballast_mb", type=int, default=0)
  parser.add_argument("--kill_at", type=int, default=0)
  parser.add_argument("--hang_at", type=int, default=0)
  parser.add_argument("--pace", type=float, default=0.0)
  parser.add_argument("--watchdog", type=float, default=0.0)
  args = parser.parse_args(argv)
  cli.join_processes()
  cfg = dataclasses.replace(
    CFG,
    steps=args.steps,
    sample_every=1,
    checkpoint_every=args.checkpoint_every,
    watchdog_seconds=args.watchdog,
  )

  def evaluate(_, step):
    print(f"after step {step}", flush=True)
    time.sleep(args.pace)
    if step == args.hang_at:
      time.sleep(3600)
    if step == args.kill_at:
      while not (Path(workdir) / "checkpoints" / "3").is_dir():
        time.sleep(0.01)
      os.kill(os.getpid(), signal.SIGKILL)
    return ()

  workdir, seen = args.workdir, Seen(args.seen) if args.seen else []
  mesh = sharding.make_mesh(MeshConfig(fsdp=args.fsdp, slices=args.slices))
  tree = functools.partial(params, args.ballast_mb)
  state = run(workdir, cfg, (evaluate,), seen, mesh=mesh, tree=tree)
  if args.record:
    leaves = jax.tree_util.tree_leaves_with_path(sharding.on_host(state))
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    if not args.seen:
      arrays["seen"] = np.array(seen)
    np.savez(args.record, **arrays)
  if int(state.step) < cfg.steps:
    sys.exit(PREEMPTED)


if __name__ == "__main__":
  cli.run(main)
