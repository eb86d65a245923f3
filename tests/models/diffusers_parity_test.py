# SPDX-License-Identifier: Apache-2.0
"""The text-to-image U-Net computes what diffusers' does with IF's weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax.models.stunet import STUNet
from lumiere_jax.weights.diffusers_unet import unet_config
from tests.fixtures import make_unet_fixtures as maker
from tests.models import if_nets

by_name = pytest.mark.parametrize("case", maker.CASES, ids=lambda c: c.name)


def network(case, **changes):
  """Our network as a function of x; its weights come through the rules."""
  mask_text = "attention" if case.lengths else "none"
  cfg = dataclasses.replace(
    unet_config(case.fields), **{"mask_text": mask_text, **changes}
  )
  params = if_nets.params(cfg)
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


def compiled(function):
  """Compiles as fast as can be: the programs run once."""
  return jax.jit(
    function, compiler_options={"xla_backend_optimization_level": "0"}
  )


def error(actual, expected):
  return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


@by_name
def test_output_is_that_of_diffusers(case):
  output, given = network(case)
  with jax.default_matmul_precision("highest"):
    y = compiled(output)(given["x"])
  with np.load(maker.PATH) as stored:
    assert error(y, stored[f"{case.name}_output"]) < 1e-4


@pytest.mark.parametrize(
  "case",
  [
    case
    if case.name == "stage_2"
    else pytest.param(case, marks=pytest.mark.full)
    for case in maker.CASES
  ],
  ids=lambda c: c.name,
)
def test_gradient_is_that_of_diffusers(case):
  output, given = network(case)

  def loss(x):
    return (output(x) * given["loss"]).sum()

  with jax.default_matmul_precision("highest"):
    gradient = compiled(jax.grad(loss))(given["x"])
  with np.load(maker.PATH) as stored:
    assert error(gradient, stored[f"{case.name}_gradient"]) < 1e-4


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
    assert error(compiled(output)(given["x"]), reference) > 1e-3
