# SPDX-License-Identifier: Apache-2.0
"""Every configuration at full size, by shapes alone: nothing is computed."""

import functools

import jax
import jax.numpy as jnp
import pytest

from lumiere_jax import build, cli, sharding, trees
from lumiere_jax.config import from_dict
from lumiere_jax.linked import weights_config
from lumiere_jax.models.stunet import STUNet, is_temporal
from lumiere_jax.stage import abstract_batch, make_stage
from lumiere_jax.text.encoder import abstract_params
from lumiere_jax.text.t5 import T5Config, T5Encoder
from tests import scripts
from tests.text.hash_encoder import HashTextEncoder

CONFIGS = scripts.model_configs()
QUICK = ("demo", "demo_t2i", "demo_t2v", "demo_cond", "if_xl")
by_config = pytest.mark.parametrize(
  "path",
  [
    p if p.stem in QUICK else pytest.param(p, marks=pytest.mark.full)
    for p in CONFIGS
  ],
  ids=lambda p: p.stem,
)

# Published, in 10^9; IF-I-M and -L and the upscalers have inferred widths.
PUBLISHED = {
  "if_xl": 4.3,
  "if_l": 0.9,
  "if_m": 0.4,
  "if_ii_l": 1.2,
  "if_iii_l": 0.7,
}
INFERRED = set(PUBLISHED) - {"if_xl"}


@functools.cache
def load(path):
  values = cli.read_config(str(path))
  if values.get("weights"):
    values = weights_config(values["weights"], values)
  return from_dict(values)


@functools.cache
def params(path):
  return build.abstract_params(load(path).model)


@by_config
def test_network_maps_a_clip_to_one_of_its_size(path):
  config = load(path)
  data, network = config.data, config.model
  lead = (2, data.num_frames) if network.temporal is not None else (2,)
  size = (*lead, data.size_px, data.size_px)
  text = (2, config.text.max_tokens, network.encoder_hid_dim)
  level = ()
  if network.class_embed_type == "timestep":
    level = (jax.ShapeDtypeStruct((2,), jnp.float32),)
  out = jax.eval_shape(
    lambda params, *args: STUNet(network).apply({"params": params}, *args),
    params(path),
    jax.ShapeDtypeStruct((*size, network.in_channels), jnp.float32),
    jax.ShapeDtypeStruct((2,), jnp.float32),
    jax.ShapeDtypeStruct(text, jnp.float32),
    jax.ShapeDtypeStruct(text[:2], jnp.bool_),
    *level,
  )
  assert out.shape == (*size, network.out_channels)
  assert out.dtype == jnp.float32


@pytest.mark.parametrize(
  "name",
  [
    "if_xl",
    *(pytest.param(n, marks=pytest.mark.full) for n in sorted(INFERRED)),
  ],
)
def test_spatial_part_is_as_large_as_published(name):
  """Exactly to the printed digits; where widths are inferred, about."""
  path = next(p for p in CONFIGS if p.stem == name)
  _, spatial = trees.split(params(path), is_temporal)
  billions = trees.count(spatial) / 1e9
  tolerance = 0.08 if name in INFERRED else 0.05 / PUBLISHED[name]
  assert billions == pytest.approx(PUBLISHED[name], rel=tolerance)
  assert ("inferred" in path.read_text()) == (name in INFERRED)


def test_t5_xxl_encodes_at_full_size():
  module = T5Encoder(T5Config(dtype="bfloat16"))
  tree = abstract_params(module)
  assert trees.count(tree) == pytest.approx(4.76e9, rel=1e-3)
  out = jax.eval_shape(
    lambda p, *tokens: module.apply({"params": p}, *tokens),
    tree,
    jax.ShapeDtypeStruct((8, 77), jnp.int32),
    jax.ShapeDtypeStruct((8, 77), jnp.bool_),
  )
  assert out.shape == (8, 77, 4096)


@pytest.mark.full
@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_train_step_at_full_size(path):
  config = load(path)
  encoder = HashTextEncoder(
    max_tokens=config.text.max_tokens, width=config.model.encoder_hid_dim
  )
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  step, _, state = make_stage(config, encoder.empty, mesh)
  batch = abstract_batch(config, mesh)
  after, metrics = step.lower(state, batch).out_info
  assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(
    lambda x: (x.shape, x.dtype), state
  )
  assert metrics["loss"].shape == ()
