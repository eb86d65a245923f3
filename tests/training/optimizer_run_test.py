# SPDX-License-Identifier: Apache-2.0
"""Every optimizer in a run: exact resume, several devices, what is averaged."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from lumiere_jax import sharding
from lumiere_jax.config import MeshConfig
from lumiere_jax.config.recipe import OPTIMIZERS
from lumiere_jax.training.averages import evaluation_params

OTHERS = tuple(name for name in OPTIMIZERS if name != "adamw")


def recipe(toy, name, **fields):
  return dataclasses.replace(toy.CFG, optimizer=name, **fields)


@pytest.mark.parametrize("name", OTHERS)
def test_a_resumed_run_is_the_one_without_a_break(toy, tmp_path, name):
  cfg = recipe(toy, name)
  straight = jax.device_get(toy.run(tmp_path / "straight", cfg))

  def interrupt(_, step):
    if step == 2:
      os.kill(os.getpid(), signal.SIGTERM)
    return ()

  one = dataclasses.replace(cfg, sample_every=1)
  stopped = toy.run(tmp_path / "parts", one, (interrupt,))
  assert int(stopped.step) == 3
  state = jax.device_get(toy.run(tmp_path / "parts", cfg))
  assert jax.tree.structure(state) == jax.tree.structure(straight)
  jax.tree.map(np.testing.assert_array_equal, state, straight)


@pytest.mark.devices(8)
def test_devices_that_share_the_state_step_as_one_does(toy):
  data = toy.batches(toy.CFG, [])
  batches = [next(data) for _ in range(4)]
  for name in OTHERS:
    states = []
    for mesh in (
      sharding.make_mesh(devices=jax.devices()[:1]),
      sharding.make_mesh(MeshConfig(fsdp=4)),
    ):
      run = toy.make(recipe(toy, name), mesh=mesh)
      state = run.state
      for batch in batches:
        state, _ = run.step(state, batch)
      states.append(state)
    one, many = states
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
      jax.device_get(many),
      jax.device_get(one),
    )
    kernel = many.params["temporal"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (4, 1)


def test_the_average_is_of_what_a_schedule_free_run_ships(toy, tmp_path):
  cfg = recipe(toy, "schedule_free_adamw", ema_decay=0.0)
  state = jax.device_get(toy.run(tmp_path, cfg))
  found = evaluation_params(state.opt_state, state.params)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    state.ema,
    found,
  )
  assert np.any(
    state.ema["temporal"]["kernel"] != state.params["temporal"]["kernel"]
  )


def test_a_constant_rate_goes_on_beyond_the_end_that_was_planned(toy, tmp_path):
  """To the same bits as if the new end had been known from the beginning."""
  first = recipe(toy, "adamw", schedule="constant", steps=4)
  last = dataclasses.replace(first, steps=7, decay_steps=3)
  straight = jax.device_get(toy.run(tmp_path / "straight", last))
  toy.run(tmp_path / "parts", first)
  state = jax.device_get(toy.run(tmp_path / "parts", last))
  assert state.step == 7
  jax.tree.map(np.testing.assert_array_equal, state, straight)
