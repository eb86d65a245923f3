# SPDX-License-Identifier: Apache-2.0
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import build, trees
from lumiere_jax.config.network import REMAT
from lumiere_jax.models.stunet import STUNet, is_temporal
from lumiere_jax.nn.temporal import AttentionInflation, ConvInflation
from tests.models.nets import (
  IMAGE,
  apply,
  inflated,
  inputs,
  just_inflated,
  randomised,
)

VIDEO = inflated(IMAGE)
SHAPES = {
  "plain": (IMAGE, False),
  "conditioned": (IMAGE, True),
  "three_levels": (
    dataclasses.replace(
      IMAGE,
      block_out_channels=(8, 8, 16),
      attention=(False, True, True),
      layers_per_block=(1, 2, 1),
      patch_size=2,
    ),
    False,
  ),
  "super_resolution": (
    dataclasses.replace(
      IMAGE,
      only_cross_attention=(False, True),
      mid_block_only_cross_attention=True,
      cross_attention_norm="none",
      resnet_skip_time_act=True,
      resnet_out_scale_factor=1.41421,
      mid_block_scale_factor=1.41421,
      act_fn="silu",
    ),
    False,
  ),
}


def close(a, b, tolerance=2e-5):
  np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", SHAPES)
def test_inflation_contract(name):
  """At init frames 0, N, 2N, ... are the T2I model's (appendix B)."""
  cfg, conditioned = SHAPES[name]
  video = inflated(cfg, conditioned=conditioned)
  spatial, full = just_inflated(video)
  frames = 2 * video.temporal_stride
  x, t, text, mask = inputs(cfg, 2, frames, w=8)
  images = apply(cfg)(spatial, x, t, text, mask)
  clip = apply(video)(full, x, t, text, mask)
  close(clip[:, :: video.temporal_stride], images[:, :: video.temporal_stride])
  # The others see coarse features of the frame before: not the T2I output.
  assert np.abs(clip[:, 1] - images[:, 1]).max() > 1e-3


def test_equal_frames_give_the_image_model_on_every_frame():
  spatial, full = just_inflated(VIDEO)
  x, t, text, mask = inputs(IMAGE, 1, 1)
  image = apply(IMAGE)(spatial, x, t, text, mask)
  clip = apply(VIDEO)(full, jnp.repeat(x, 8, axis=1), t, text, mask)
  close(clip, jnp.repeat(image, 8, axis=1))


def test_without_resampling_every_frame_is_the_image_models():
  video = inflated(IMAGE, resample=False)
  assert video.temporal_stride == 1
  spatial, full = just_inflated(video)
  args = inputs(IMAGE, 1, 5)
  close(apply(video)(full, *args), apply(IMAGE)(spatial, *args))


def test_he_initialised_resampling_breaks_the_contract():
  """The ablation of Fig. 12 is another start, so the flag does something."""
  video = inflated(IMAGE, init="he")
  spatial, full = just_inflated(video)
  args = inputs(IMAGE, 1, 4)
  difference = apply(video)(full, *args) - apply(IMAGE)(spatial, *args)
  assert np.abs(difference[:, 0]).max() > 1e-2


def test_image_model_takes_frames_one_by_one():
  """Scaling one frame leaves the others unchanged, bit for bit."""
  params = randomised(IMAGE)
  x, t, text, mask = inputs(IMAGE, 2, 3)
  before = apply(IMAGE)(params, x, t, text, mask)
  after = apply(IMAGE)(params, x.at[:, 1].multiply(3.0), t, text, mask)
  np.testing.assert_array_equal(before[:, [0, 2]], after[:, [0, 2]])
  assert np.abs(before[:, 1] - after[:, 1]).max() > 1e-2
  image = apply(IMAGE)(params, x[:, 0], t, text, mask)
  close(before[:, 0], image)


def test_trained_temporal_part_mixes_frames_both_ways():
  params = randomised(VIDEO)
  x, t, text, mask = inputs(VIDEO, 1, 8)
  before = apply(VIDEO)(params, x, t, text, mask)
  after = apply(VIDEO)(params, x.at[:, 4].add(1.0), t, text, mask)
  change = np.abs(after - before).max((0, 2, 3, 4))
  assert (change > 1e-6).all(), change


@pytest.mark.parametrize("cfg", [IMAGE, VIDEO], ids=["image", "video"])
def test_padding_tokens_are_not_seen(cfg):
  params = randomised(cfg)
  frames = (4,) if cfg.temporal else ()
  x, t, text, mask = inputs(cfg, 2, *frames)
  other = jnp.where(mask[..., None], text, 100.0)
  np.testing.assert_array_equal(
    apply(cfg)(params, x, t, text, mask), apply(cfg)(params, x, t, other, mask)
  )
  short = apply(cfg)(params, x, t, text[:, :4], mask[:, :4])
  close(apply(cfg)(params, x, t, text, mask), short)


def test_ifs_own_form_does_not_mask():
  cfg = dataclasses.replace(IMAGE, mask_text="none")
  params = randomised(cfg)
  x, t, text, mask = inputs(cfg, 2)
  other = jnp.where(mask[..., None], text, 100.0)
  difference = apply(cfg)(params, x, t, text, mask) - apply(cfg)(
    params, x, t, other, mask
  )
  assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize("what", ["time", "text"])
def test_conditions_matter(what):
  params = randomised(VIDEO)
  x, t, text, mask = inputs(VIDEO, 1, 4)
  other = {
    "time": (t + 100, text),
    "text": (t, -text),
  }[what]
  difference = apply(VIDEO)(params, x, t, text, mask) - apply(VIDEO)(
    params, x, *other, mask
  )
  assert np.abs(difference).max() > 1e-3


def test_inflation_blocks_hear_of_the_frames_that_their_level_has():
  """0, N, 2N, ... as in the inflation contract; temporal text has no norm2."""
  heard = {}

  def record(call, args, kwargs, context):
    block = isinstance(context.module, ConvInflation | AttentionInflation)
    if block and context.method_name == "__call__":
      heard[context.module.path] = args[1]
    return call(*args, **kwargs)

  video = inflated(IMAGE, conditioned=True)
  params = randomised(video)
  with nn.intercept_methods(record):
    STUNet(video).apply({"params": params}, *inputs(video, 1, 8))
  fine, coarse = (
    heard["down_0", "temporal_conv_0"],
    heard["mid", "temporal_attention_0"],
  )
  assert fine.shape[1] == 8
  assert np.abs(fine[:, 1:] - fine[:, :-1]).max() > 1e-3
  np.testing.assert_array_equal(coarse, fine[:, :: video.temporal_stride])
  pool = params["temporal_text_pool"]
  assert "norm2" in params["text_pool"] and "norm2" not in pool


def test_inflated_tree_is_the_image_tree_and_temporal_subtrees():
  image, video = (
    trees.flatten(build.abstract_params(c)) for c in (IMAGE, VIDEO)
  )
  added = {path for path in video if is_temporal(path)}
  assert set(video) - added == set(image)
  assert not any(is_temporal(path) for path in image)
  parts = {
    part for path in added for part in path.split("/") if is_temporal(part)
  }
  assert parts == {
    "temporal_conv_0",
    "temporal_conv_1",
    "temporal_attention_0",
    "temporal_attention_1",
    "temporal_downsample",
    "temporal_upsample",
  }
  # Attention only at the coarsest level and the middle, convolution elsewhere.
  for path in added:
    coarsest = path.split("/")[0] in ("down_1", "mid", "up_1")
    assert ("temporal_attention" in path) <= coarsest, path
    assert ("temporal_conv" in path) <= (not coarsest), path


def test_every_parameter_can_learn():
  """After one step's worth of noise all gradients are non-zero."""
  video = inflated(IMAGE, conditioned=True)
  params = randomised(video)
  args = inputs(video, 1, 4)

  def loss(params):
    return jnp.square(STUNet(video).apply({"params": params}, *args)).sum()

  grads = trees.flatten(jax.jit(jax.grad(loss))(params))
  # A bias of keys shifts all logits of a query alike: softmax cancels it.
  cancelled = {p for p in grads if p.endswith(("pool/k/bias",))}
  cancelled |= {
    p for p in grads if "temporal" in p and "to_k" in p and p.endswith("bias")
  }
  dead = [
    path
    for path, g in grads.items()
    if path not in cancelled and not np.abs(g).max() > 0
  ]
  assert dead == []


@pytest.mark.parametrize(
  ("frames", "h", "w"), [(2, 2, 4), (8, 8, 4), (80, 4, 8), (20, 12, 4)]
)
def test_shapes(frames, h, w):
  out = jax.eval_shape(
    apply(VIDEO),
    build.abstract_params(VIDEO),
    *inputs(VIDEO, 2, frames, h=h, w=w),
  )
  assert out.shape == (2, frames, h, w, 3)
  assert out.dtype == jnp.float32


def test_bfloat16_compute_is_close_and_returns_float32():
  half = dataclasses.replace(VIDEO, dtype="bfloat16")
  params = randomised(VIDEO)
  args = inputs(VIDEO, 1, 4)
  full, low = apply(VIDEO)(params, *args), apply(half)(params, *args)
  assert low.dtype == jnp.float32
  error = np.linalg.norm(full - low) / np.linalg.norm(full)
  assert 1e-4 < error < 0.1


@pytest.mark.full
@pytest.mark.parametrize("name", REMAT[1:])
def test_remat_changes_nothing(name):
  remat = dataclasses.replace(VIDEO, remat=name)
  params = randomised(VIDEO)
  args = inputs(VIDEO, 1, 4)

  def gradient(cfg):
    def loss(params):
      return jnp.square(STUNet(cfg).apply({"params": params}, *args)).mean()

    return jax.jit(jax.grad(loss))(params)

  jax.tree.map(close, gradient(VIDEO), gradient(remat))


@pytest.mark.parametrize(
  ("shape", "message"),
  [
    ((1, 4, 5, 8, 3), "h=5 pixels"),
    ((1, 4, 8, 7, 3), "w=7 pixels"),
    ((1, 5, 8, 8, 3), "t=5 frames"),
    ((1, 8, 8, 3), "takes clips"),
    ((1, 4, 8, 8, 4), "4 channels"),
  ],
)
def test_wrong_inputs_are_named(shape, message):
  _, t, text, mask = inputs(VIDEO, 1, 4)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      apply(VIDEO),
      build.abstract_params(VIDEO),
      jnp.zeros(shape),
      t,
      text,
      mask,
    )


def test_dropout_is_each_examples_own():
  """An example loses the same in any batch; blocks and keys differ."""
  cfg = dataclasses.replace(IMAGE, dropout=0.5)
  params, (x, t, text, mask) = randomised(cfg), inputs(cfg, 3)
  keys = jax.random.split(jax.random.key(0), 3)

  @jax.jit
  def run(x, t, text, mask, keys):
    net = STUNet(cfg)
    return net.apply({"params": params}, x, t, text, mask, dropout_keys=keys)

  whole = run(x, t, text, mask, keys)
  alone = [
    run(x[i : i + 1], t[i : i + 1], text[i : i + 1], mask[i : i + 1], k[None])
    for i, k in enumerate(keys)
  ]
  np.testing.assert_allclose(whole, jnp.concatenate(alone), atol=1e-4)
  other = run(x, t, text, mask, jax.random.split(jax.random.key(1), 3))
  assert jnp.abs(whole - other).max() > 1e-2
  without = apply(cfg)(params, x, t, text, mask)
  np.testing.assert_allclose(
    without, apply(IMAGE)(params, x, t, text, mask), atol=1e-6
  )
