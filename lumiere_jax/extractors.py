# SPDX-License-Identifier: Apache-2.0
"""Feature networks with their weights: what each makes of a clip."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax.errors import UserError
from lumiere_jax.features import c3d, efficientnet, i3d, transnet, videomae
from lumiere_jax.shapes import Array, Float, PyTree, UInt8
from lumiere_jax.weights import folder
from lumiere_jax.weights import videomae as videomae_weights

_CHUNK = 16  # Frames at once, of networks that see each by itself.

Fields = Mapping[str, Any]
Levels = Float[Array, "t _ _ 3"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """What is known of a network whatever its weights are.

  Attributes:
    title: what its Frechet and kernel distances are called by; of I3D's, FVD
      and KVD, the title is empty.
    resize: how frames come to its size, for the protocol card; what its
      config.json says stands in braces.
    frames: fewest frames of a clip, where config.json tells none.
    exactly: whether clips have no more.
    by_frame: whether it sees each frame by itself; the features of a clip are
      the mean of its frames' then.
    params: its abstract parameters, given what its config.json says.
    pixels: (config, frames of levels 0 to 255) to what the network sees.
    network: (params, config, what it sees of clips) to their features.
  """

  title: str
  resize: str
  frames: int
  exactly: bool = False
  by_frame: bool = False
  params: Callable[[Fields], PyTree]
  pixels: Callable[[Fields, Levels], Levels]
  network: Callable[[PyTree, Fields, Array], Array]

  def features(self, params: PyTree, config: Fields, clip: Levels) -> Array:
    """Features of a clip."""
    if not self.by_frame:
      return self.network(params, config, self.pixels(config, clip)[None])[0]

    def frame(x: Array) -> Array:
      return self.network(params, config, self.pixels(config, x[None]))[0]

    return jax.lax.map(frame, clip, batch_size=_CHUNK).mean(axis=0)


def _square(clip: Array) -> Array:
  """The largest square in the middle."""
  height, width = clip.shape[1:3]
  side = min(height, width)
  top, left = (height - side) // 2, (width - side) // 2
  return clip[:, top : top + side, left : left + side]


def _resized(
  clip: Array, size: tuple[int, int], *, antialias: bool = True
) -> Array:
  shape = (clip.shape[0], *size, 3)
  return jax.image.resize(clip, shape, "bilinear", antialias=antialias)


def _i3d_pixels(config: Fields, clip: Levels) -> Levels:
  del config
  size = (i3d.SIZE_PX, i3d.SIZE_PX)
  return _resized(_square(clip), size, antialias=False) / 127.5 - 1


def _c3d_pixels(config: Fields, clip: Levels) -> Levels:
  x = _resized(clip, (128, 171), antialias=False)
  top, left = (128 - c3d.SIZE_PX) // 2, (171 - c3d.SIZE_PX) // 2
  x = x[:, top : top + c3d.SIZE_PX, left : left + c3d.SIZE_PX]
  if config["order"] == "bgr":
    x = x[..., ::-1]
  return x - jnp.asarray(config["mean"], jnp.float32)


def _videomae_pixels(config: Fields, clip: Levels) -> Levels:
  size = (config["image_px"], config["image_px"])
  x = _resized(_square(clip), size) / 255
  return (x - jnp.array(videomae_weights.MEAN)) / jnp.array(
    videomae_weights.STD
  )


def _efficientnet_pixels(config: Fields, clip: Levels) -> Levels:
  del config
  size = (efficientnet.SIZE_PX, efficientnet.SIZE_PX)
  return _resized(_square(clip), size) / 127.5 - 1


def _transnet_pixels(config: Fields, clip: Levels) -> Levels:
  del config
  return _resized(clip, (transnet.HEIGHT, transnet.WIDTH)) / 127.5 - 1


def _videomae(config: Fields) -> videomae.VideoMAE:
  return videomae.VideoMAE(videomae.VideoMAEConfig(**config))


KINDS = {
  "i3d": Kind(
    title="",
    resize="centre square, bilinear to 224 without antialiasing",
    frames=i3d.MIN_FRAMES,
    params=lambda config: i3d.abstract_params(),
    pixels=_i3d_pixels,
    network=lambda params, config, x: (
      i3d.I3D().apply({"params": params}, x).logits
    ),
  ),
  "videomae": Kind(
    title="VideoMAE",
    resize="centre square, bilinear to {image_px} with antialiasing",
    frames=16,
    exactly=True,
    params=lambda config: videomae.abstract_params(_videomae(config).cfg),
    pixels=_videomae_pixels,
    network=lambda params, config, x: _videomae(config).apply(
      {"params": params}, x
    ),
  ),
  "efficientnet-lite0": Kind(
    title="EffNet",
    resize="centre square, bilinear to 224 with antialiasing",
    frames=1,
    by_frame=True,
    params=lambda config: efficientnet.abstract_params(),
    pixels=_efficientnet_pixels,
    network=lambda params, config, x: (
      efficientnet.EfficientNetLite0().apply({"params": params}, x).pooled
    ),
  ),
  "transnetv2": Kind(
    title="TransNet",
    resize="bilinear to 27 x 48 with antialiasing",
    frames=2,
    params=lambda config: transnet.abstract_params(),
    pixels=_transnet_pixels,
    network=lambda params, config, x: transnet.TransNetV2().apply(
      {"params": params}, x
    ),
  ),
  "c3d": Kind(
    title="C3D",
    resize=(
      "bilinear to 128 x 171 without antialiasing, middle 112 x 112, {order} "
      "less {mean}"
    ),
    frames=c3d.FRAMES,
    exactly=True,
    params=lambda config: c3d.abstract_params(config["classes"]),
    pixels=_c3d_pixels,
    network=lambda params, config, x: c3d.C3D(config["classes"]).apply(
      {"params": params}, x
    ),
  ),
}


class Extractor:
  """Features of clips, one by one.

  Attributes:
    kind: name in `KINDS`.
    fingerprint: SHA-256 of its weights, however they are stored.
    frames: fewest frames of a clip; of some kinds, the only number of them.
    resize: how frames come to its size, for the protocol card.
  """

  def __init__(
    self,
    kind: str,
    params: PyTree,
    config: Fields,
    fingerprint: str,
  ):
    """Wraps loaded parameters; `load` is the usual way."""
    self.kind, self.fingerprint = kind, fingerprint
    self._params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    known = KINDS[kind]
    self.frames = config.get("frames", known.frames)
    self.resize = known.resize.format(**config)
    self._run = jax.jit(
      lambda params, clip: known.features(
        params, config, clip.astype(jnp.float32)
      )
    )

  @property
  def known(self) -> Kind:
    """What is known of its kind."""
    return KINDS[self.kind]

  @functools.cached_property
  def dimensions(self) -> int:
    """How wide its features are."""
    clip = jax.ShapeDtypeStruct((self.frames, 64, 64, 3), jnp.uint8)
    return jax.eval_shape(self._run, self._params, clip).shape[0]

  def check_frames(self, count: int) -> None:
    """Passes a number of frames that the network can see.

    Raises:
      UserError: it has too few frames for the network, or too many.
    """
    least, exactly = self.frames, self.known.exactly
    if count < least or (exactly and count != least):
      wanted = f"{least} frames" + ("" if exactly else " or more")
      raise UserError(f"{self.kind} sees {wanted}, not {count}")

  def __call__(
    self, clip: UInt8[np.ndarray, "t h w 3"]
  ) -> Float[np.ndarray, " d"]:
    """Features of a clip.

    Raises:
      UserError: it has too few frames for the network, or too many.
    """
    self.check_frames(len(clip))
    return np.asarray(self._run(self._params, clip))


def load(path: str) -> Extractor:
  """Loads a folder that import_weights wrote of a feature network.

  Raises:
    UserError: there is none, or it holds other weights.
  """
  wanted = {name: kind.params for name, kind in KINDS.items()}
  return Extractor(*read(path, wanted))


def read(
  path: str, wanted: Mapping[str, Callable[[Fields], PyTree]]
) -> tuple[str, PyTree, dict[str, Any], str]:
  """Kind, parameters, configuration and fingerprint of a weights folder.

  Args:
    path: of the folder.
    wanted: kinds of feature networks that will do, with their abstract
      parameters by what config.json says.

  Raises:
    UserError: there is none, or it holds other weights.
  """
  params, config, info = folder.load(Path(path))
  fields = config.get("features")
  fields = dict(fields) if isinstance(fields, dict) else {}
  kind = fields.pop("kind", None)
  if kind not in wanted:
    raise UserError(
      f"{path} holds no feature network of those wanted here: its config.json "
      f"names none of {', '.join(wanted)}"
    )
  try:
    abstract = wanted[kind](fields)
  except (TypeError, KeyError) as error:
    raise UserError(
      f"{path} holds no whole configuration of {kind}: {error}"
    ) from error
  if jax.tree.map(lambda x: x.shape, params) != jax.tree.map(
    lambda x: x.shape, abstract
  ):
    raise UserError(f"{path} holds other parameters than those of {kind}")
  return kind, params, fields, info.fingerprint
