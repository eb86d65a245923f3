# SPDX-License-Identifier: Apache-2.0
"""The text-to-image U-Net computes what diffusers' does with IF's weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build, trees
from lumiere_jax.models.stunet import STUNet
from lumiere_jax.weights.diffusers_unet import rules, unet_config
from lumiere_jax.weights.rules import apply_rules, plan_export
from tests.fixtures import make_unet_fixtures as maker

by_name = pytest.mark.parametrize("case", maker.CASES, ids=lambda c: c.name)


def network(case, **changes):
  """Our network as a function of x; its weights come through the rules."""
  mask_text = "attention" if case.lengths else "none"
  cfg = dataclasses.replace(
    unet_config(case.fields), **{"mask_text": mask_text, **changes}
  )
  target, table = build.abstract_params(cfg), rules(cfg.num_levels)
  names = plan_export(trees.flatten(target), table)
  state = {n: maker.weight(n, leaf.shape) for n, leaf in names.items()}
  params = build.cast_params(apply_rules(state, table, target), cfg)
  given = {n: jnp.asarray(v) for n, v in maker.inputs(case).items()}

  def output(x):
    return STUNet(cfg).apply(
      {"params": params},
      x,
      given["t"],
      given["text"],
      given.get("mask"),
      given.get("level"),
    )

  return output, given


def run(case):
  """Our output and gradient."""
  output, given = network(case)

  def loss(x):
    y = output(x)
    return (y * given["loss"]).sum(), y

  with jax.default_matmul_precision("highest"):
    gradient, y = jax.jit(jax.grad(loss, has_aux=True))(given["x"])
  return {"output": y, "gradient": gradient}


def error(actual, expected):
  return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


@by_name
def test_output_and_gradient_are_those_of_diffusers(case):
  ours = run(case)
  with np.load(maker.PATH) as stored:
    for name, value in ours.items():
      assert error(value, stored[f"{case.name}_{name}"]) < 1e-4


@pytest.mark.filterwarnings("ignore")  # diffusers' own
@by_name
def test_stored_outputs_are_those_of_diffusers_live(case):
  pytest.importorskip("torch")
  pytest.importorskip("diffusers")
  live = maker.reference(case)
  with np.load(maker.PATH) as stored:
    for name, value in live.items():
      assert error(value, stored[f"{case.name}_{name}"]) < 1e-5


def test_the_mask_matters():
  masked = next(case for case in maker.CASES if case.lengths)
  with np.load(maker.PATH) as stored:
    reference = stored[f"{masked.name}_output"]
  for kind in ("none", "all"):
    output, given = network(masked, mask_text=kind)
    assert error(jax.jit(output)(given["x"]), reference) > 1e-3
