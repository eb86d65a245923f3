# SPDX-License-Identifier: Apache-2.0
"""Training and sampling on a mesh are those of one device, to rounding."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build, sharding, trees
from lumiere_jax.config import (
  Config,
  DataConfig,
  DiffusionConfig,
  MeshConfig,
  SamplerConfig,
  TrainConfig,
)
from lumiere_jax.diffusion.sampler import sample_keys
from lumiere_jax.errors import UserError
from lumiere_jax.inference.asking import WithGuide
from lumiere_jax.inference.generate import Text
from lumiere_jax.models.sharded import check_frames
from lumiere_jax.nn.frames import Frames, Split, levels
from lumiere_jax.stage import make_stage
from lumiere_jax.training.state import place_state
from tests.models import nets
from tests.text.hash_encoder import HashTextEncoder

MODEL = dataclasses.replace(
  nets.inflated(nets.IMAGE, conditioned=True), encoder_hid_dim=16, dropout=0.1
)
CFG = Config(
  model=MODEL,
  data=DataConfig(size_px=8, num_frames=8),
  diffusion=DiffusionConfig(),
  sampler=SamplerConfig(name="ddim", steps=3, guidance=2.0, eta=0.5),
  train=TrainConfig(stage="video", trainable=".", batch_size=8, warmup_steps=0),
)
ENCODER = HashTextEncoder(max_tokens=5, width=16)
# (data, fsdp, frames); clips of 8 frames, and 4 at the coarsest level, which
# eight devices cannot split.
SHAPES = [(8, 1, 1), (1, 8, 1), (2, 1, 4), (1, 2, 4), (1, 1, 8)]
ALL_AXES = [(2, 2, 2)]


def one_step(mesh, remat="none", accumulate=1):
  """State and metrics after a step of training everything."""
  cfg = dataclasses.replace(
    CFG,
    model=dataclasses.replace(MODEL, remat=remat),
    train=dataclasses.replace(CFG.train, accumulate=accumulate),
  )
  step, tx, like = make_stage(cfg, ENCODER.empty, mesh)
  state = place_state(nets.randomised(MODEL), {}, tx, like)
  text, mask = ENCODER.encode([f"clip {i}" for i in range(8)])
  pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 8, 3), np.uint8)
  batch = {"pixels": pixels, "text": text, "mask": mask}
  return step(state, batch)


def placed(model, mesh):
  params = nets.randomised(model)
  if mesh is None:
    return params
  return sharding.place_tree(params, sharding.shard_tree(params, mesh))


def sampled(mesh, worse=None, **fields):
  """A whole run of the sampler, of a batch of eight."""
  params = placed(MODEL, mesh)
  if worse is not None:
    params = WithGuide(params, placed(worse.model, mesh))
  sampler = dataclasses.replace(CFG.sampler, **fields)
  make = build.generator(CFG, "text_to_video", sampler, mesh, worse)
  text = Text(*ENCODER.encode([f"clip {i}" for i in range(8)]))
  return make(params, text, Text(*ENCODER.empty), sample_keys(0, range(8)))


def mesh_of(shape):
  sizes = MeshConfig(
    **dict(zip(("data", "fsdp", "frames"), shape, strict=True))
  )
  return sharding.make_mesh(sizes)


@functools.cache
def reference(accumulate=1):
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  return jax.device_get(one_step(mesh, accumulate=accumulate))


def assert_same_step(got, want):
  """Loss, gradient (Adam's first moment of one step), parameters, average."""
  (state, metrics), (right, told) = jax.device_get(got), want
  for name in ("loss", "grad_norm", "update_norm"):
    np.testing.assert_allclose(metrics[name], told[name], rtol=2e-6)
  moments, right_moments = state.opt_state[1][0].mu, right.opt_state[1][0].mu
  scale = np.sqrt(
    sum(np.square(m).sum() for m in jax.tree.leaves(right_moments))
  )
  for a, b in zip(
    jax.tree.leaves(moments), jax.tree.leaves(right_moments), strict=True
  ):
    np.testing.assert_allclose(a, b, atol=1e-6 * scale)
  # Where a gradient is next to nothing, its sign is rounding, and Adam's first
  # step is the sign.
  rate = told["lr"]
  for part in ("params", "ema"):
    for a, b, g in zip(
      jax.tree.leaves(getattr(state, part)),
      jax.tree.leaves(getattr(right, part)),
      jax.tree.leaves(right_moments),
      strict=True,
    ):
      sure = np.abs(g) > 1e-4 * scale
      np.testing.assert_allclose(a[sure], b[sure], atol=0.02 * rate)
      np.testing.assert_allclose(a, b, atol=2.1 * rate)


@pytest.mark.full
@pytest.mark.devices(8)
@pytest.mark.parametrize("shapes", [ALL_AXES, SHAPES])
def test_a_step_of_training_is_that_of_one_device(shapes):
  for shape in shapes:
    assert_same_step(one_step(mesh_of(shape)), reference())


@pytest.mark.full
@pytest.mark.devices(8)
def test_and_so_it_is_with_less_kept_and_in_parts():
  step = one_step(mesh_of((2, 2, 2)), remat="convs", accumulate=2)
  assert_same_step(step, reference(accumulate=2))


def convolutions(jaxpr, inside=False):
  """(convolutions, those of them in a shard_map) of a program."""
  found = []
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == "conv_general_dilated":
      found.append(inside)
    manual = inside or eqn.primitive.name == "shard_map"
    for value in jax.tree.leaves(
      eqn.params, is_leaf=lambda v: hasattr(v, "eqns")
    ):
      value = getattr(value, "jaxpr", value)
      if hasattr(value, "eqns"):
        found += convolutions(value, manual)
  return found


@pytest.mark.devices(8)
def test_no_convolution_is_left_to_the_partitioner():
  """It would be wrong along time (tests/partitioner_test.py)."""
  mesh = mesh_of((2, 2, 2))
  make = build.loss_fn(CFG, ENCODER.empty, mesh)
  text, mask = ENCODER.encode(["a"] * 8)
  batch = {
    "pixels": np.zeros((8, 8, 8, 8, 3), np.uint8),
    "text": text,
    "mask": mask,
  }
  keys = jax.random.split(jax.random.key(0), 8)

  def gradient(params):
    arrays = jax.tree.map(jnp.asarray, batch)
    return jax.grad(lambda p: make(p, arrays, keys)[0].mean())(params)

  found = convolutions(jax.make_jaxpr(gradient)(nets.randomised(MODEL)).jaxpr)
  assert len(found) > 20
  assert all(found)


@pytest.mark.devices(8)
@pytest.mark.parametrize(
  "shapes", [ALL_AXES, pytest.param(SHAPES, marks=pytest.mark.full)]
)
def test_samples_are_those_of_one_device(shapes):
  want = np.asarray(sampled(None))
  assert np.abs(want).max() > 0.1
  for shape in shapes:
    np.testing.assert_allclose(sampled(mesh_of(shape)), want, atol=2e-5)


@pytest.mark.full
@pytest.mark.devices(8)
def test_the_difference_of_a_step_before_lies_as_the_clips_do():
  fields = {"guidance_every": 2, "eta": 0.0}
  want, exact = sampled(None, **fields), sampled(None, eta=0.0)
  assert np.abs(want - exact).max() > 1e-3
  mesh = mesh_of((2, 2, 2))
  np.testing.assert_allclose(sampled(mesh, **fields), want, atol=2e-5)
  with pytest.raises(UserError, match=r"deep_every=2 .* one device.* name 8"):
    sampled(mesh, deep_every=2)


@pytest.mark.devices(8)
def test_a_guide_is_shared_as_the_network_is():
  small = dataclasses.replace(
    MODEL, block_out_channels=(16,), attention=(True,)
  )
  worse = dataclasses.replace(CFG, model=small)
  fields = {"guide": "worse", "guide_scale": 1.5, "eta": 0.0}
  want, exact = sampled(None, worse, **fields), sampled(None, eta=0.0)
  assert np.abs(want - exact).max() > 1e-3
  found = sampled(mesh_of((2, 2, 2)), worse, **fields)
  np.testing.assert_allclose(found, want, atol=2e-5)


@pytest.mark.devices(8)
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m"])
def test_samplers_of_one_step_and_of_two_are_planned_on_a_mesh(name):
  cfg = dataclasses.replace(
    CFG, sampler=SamplerConfig(name=name, steps=3, guidance=2.0)
  )
  mesh = mesh_of((2, 2, 2))
  params = sharding.abstract_tree(build.abstract_params(MODEL), mesh)
  text = Text(*ENCODER.encode([f"clip {i}" for i in range(8)]))
  make = build.generator(cfg, "text_to_video", mesh=mesh)
  lowered = make.lower(params, text, Text(*ENCODER.empty))
  clips = jax.tree.leaves(lowered.out_info)
  several = name != "ddim"  # It keeps the clip of the step before.
  assert [c.shape for c in clips] == [(8, 8, 8, 8, 3)] * (1 + several) + [()]


@pytest.mark.devices(8)
def test_a_batch_that_devices_cannot_share_is_refused():
  mesh = mesh_of((8, 1, 1))
  make = build.generator(CFG, "text_to_video", mesh=mesh)
  text = Text(*ENCODER.encode(["a", "b"]))
  with pytest.raises(UserError, match=r"a batch of 2 cannot be .* 8"):
    make({}, text, text, sample_keys(0, range(2)))


@pytest.mark.devices(8)
def test_bytes_of_a_device_fall_with_fsdp():
  def held(shape):
    mesh = mesh_of(shape)
    params = nets.randomised(MODEL)
    params = sharding.place_tree(params, sharding.shard_tree(params, mesh))
    return sum(
      leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params)
    )

  whole, eighth = held((8, 1, 1)), held((1, 8, 1))
  assert whole == 4 * trees.count(nets.randomised(MODEL))
  kernels = trees.select(nets.randomised(MODEL), "kernel$")
  assert whole - eighth == 4 * trees.count(kernels) * 7 // 8


def test_levels_that_devices_cannot_share_are_whole_on_each():
  cfg = nets.inflated(
    dataclasses.replace(
      nets.IMAGE,
      block_out_channels=(8, 8, 8, 8),
      attention=(False,) * 4,
    )
  )
  four, five = Split("frames", 4), Split("frames", 5)
  assert levels(cfg, 80, four) == (
    Frames(80, four),
    Frames(40, four),
    Frames(20, four),
    Frames(10),
  )
  assert all(f.split == five for f in levels(cfg, 80, five))
  wide = nets.inflated(cfg, kernel_size=7)
  assert levels(wide, 80, Split("frames", 20))[1:] == (
    Frames(40),
    Frames(20),
    Frames(10),
  )


@pytest.mark.devices(8)
def test_frames_that_devices_cannot_share_are_refused_with_what_they_can():
  mesh = mesh_of((1, 1, 8))
  message = (
    "mesh.frames=8 cannot split clips of 12 frames; .* 1, 2, 3, 4, 6, 12"
  )
  with pytest.raises(UserError, match=message):
    check_frames(MODEL, 12, mesh)
  with pytest.raises(UserError, match=r"mesh.frames=8 .* one of images"):
    check_frames(nets.IMAGE, 1, mesh)
