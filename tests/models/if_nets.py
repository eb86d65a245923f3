# SPDX-License-Identifier: Apache-2.0
"""Small networks in IF's form with the tensors of the fixtures' script."""

import functools

from lumiere_jax import build, trees
from lumiere_jax.config import UNetConfig
from lumiere_jax.weights.diffusers_unet import rules
from lumiere_jax.weights.rules import apply_rules, plan_export
from tests.fixtures import make_unet_fixtures as maker

# Tracing a network takes seconds; several tests want each.
abstract_params = functools.cache(build.abstract_params)


def diffusers_state(cfg: UNetConfig):
  """The tensors under the keys that diffusers gives them."""
  leaves = trees.flatten(abstract_params(cfg))
  keys = plan_export(leaves, rules(cfg.num_levels))
  return {key: maker.weight(key, leaf.shape) for key, leaf in keys.items()}


def params(cfg: UNetConfig):
  """The same as our parameters; they come through the rules."""
  table = rules(cfg.num_levels)
  tree = apply_rules(diffusers_state(cfg), table, abstract_params(cfg))
  return build.cast_params(tree, cfg)
