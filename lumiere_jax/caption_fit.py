# SPDX-License-Identifier: Apache-2.0
"""How well the frames of a clip fit its caption, and each other, by CLIP.

CLIP score (arXiv 2104.08718) is the cosine of a frame's and the caption's
embedding, or 0 if that is less, and here its mean over frames. That article
multiplies it by 2.5; papers on video tell 100 times the cosine, and so does
this module. Frame consistency (arXiv 2212.11565, 2302.03011) is 100 times the
mean cosine of the embeddings of neighbouring frames; it rises where less moves,
too.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lumiere_jax import extractors
from lumiere_jax.errors import UserError
from lumiere_jax.features.clip import CLIP, CLIPConfig, abstract_params
from lumiere_jax.shapes import Array, Float, Int, PyTree, UInt8
from lumiere_jax.text.tokenizer import Tokenizer
from lumiere_jax.weights.clip import MEAN, STD

KIND = "clip"
_END = "<|endoftext|>"
_CHUNK = 16  # Frames at once.


class CaptionFit:
  """A CLIP with its tokenizer, to score clips by their captions.

  A caption of more tokens than CLIP has places for (77) loses its end, as in
  CLIP's own use; `is_cut` tells of which.

  Attributes:
    network: what the network is called on a protocol card.
    fingerprint: SHA-256 of its weights, however they are stored.
    resize: how frames come to its size, for the card.
    dimensions: of an embedding.
  """

  network = KIND

  def __init__(
    self,
    params: PyTree,
    cfg: CLIPConfig,
    tokenizer: Tokenizer,
    fingerprint: str,
  ):
    """Wraps loaded parameters; `load` is the usual way."""
    self.fingerprint = fingerprint
    self.resize = (
      f"shorter side bicubic to {cfg.image_px} with antialiasing, in whole "
      f"levels, middle {cfg.image_px} x {cfg.image_px}"
    )
    self.dimensions = cfg.embedding
    self._tokenizer = tokenizer
    self._params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    model = CLIP(cfg)

    def of_frames(params, clip):
      def frame(x):
        seen = pixels(x[None], cfg.image_px)
        return model.apply({"params": params}, seen, method=model.frames)[0]

      return jax.lax.map(frame, clip, batch_size=_CHUNK)

    def of_caption(params, ids):
      return model.apply({"params": params}, ids, method=model.captions)[0]

    self._of_frames, self._of_caption = jax.jit(of_frames), jax.jit(of_caption)

  @classmethod
  def load(cls, path: str) -> "CaptionFit":
    """Loads a folder that `import_weights --from=hf-clip` wrote.

    Raises:
      UserError: there is none, it holds other weights, or its tokenizer is not
        the network's.
    """

    def abstract(fields: extractors.Fields) -> PyTree:
      return abstract_params(CLIPConfig(**fields))

    _, params, fields, fingerprint = extractors.read(path, {KIND: abstract})
    cfg = CLIPConfig(**fields)
    tokenizer = Tokenizer(
      Path(path) / "tokenizer.json", max_tokens=cfg.tokens, pad=_END
    )
    # The network finds a caption's end by the highest token.
    if tokenizer([""])[0].max() != cfg.vocabulary - 1:
      raise UserError(
        f"the tokenizer in {path} is not this CLIP's: captions do not end in "
        f"token {cfg.vocabulary - 1}"
      )
    return cls(params, cfg, tokenizer, fingerprint)

  def frames(
    self, clip: UInt8[np.ndarray, "t h w 3"]
  ) -> Float[np.ndarray, "t d"]:
    """Embeddings of frames, of length 1."""
    return np.asarray(self._of_frames(self._params, clip))

  def caption(self, caption: str) -> Float[np.ndarray, " d"]:
    """Embedding of a caption, of length 1.

    Raises:
      UserError: it is empty.
    """
    if not caption.strip():
      raise UserError("an empty caption fits nothing")
    ids: Int[np.ndarray, "1 s"] = self._tokenizer([caption])[0]
    return np.asarray(self._of_caption(self._params, ids))

  def is_cut(self, caption: str) -> bool:
    """Whether a caption is too long, so that its end is not read."""
    return self._tokenizer.is_cut(caption)


def clip_score(
  frames: Float[np.ndarray, "t d"], caption: Float[np.ndarray, " d"]
) -> float:
  """100 times the mean cosine of frames and caption, or 0 where it is less."""
  return 100 * float(np.maximum(frames @ caption, 0).mean())


def frame_consistency(frames: Float[np.ndarray, "t d"]) -> float:
  """100 times the mean cosine of neighbouring frames.

  Raises:
    UserError: there are fewer than two.
  """
  if len(frames) < 2:
    raise UserError(f"{len(frames)} frames have no neighbours to agree with")
  return 100 * float((frames[1:] * frames[:-1]).sum(axis=1).mean())


def pixels(clip: Array, size_px: int) -> Float[Array, "t s s 3"]:
  """What CLIP sees of frames, as its image processor makes it of images.

  That resizes by PIL, which goes over the width and then the height, and rounds
  to levels after each.

  Args:
    clip: (t, h, w, 3) of levels 0 to 255.
    size_px: height and width that the network sees.
  """
  height, width = clip.shape[1:3]
  short = min(height, width)
  high, wide = (size_px * side // short for side in (height, width))
  x = clip.astype(jnp.float32)
  for shape in ((height, wide), (high, wide)):
    x = jax.image.resize(x, (len(x), *shape, 3), "bicubic", antialias=True)
    x = jnp.clip(jnp.floor(x + 0.5), 0, 255)
  top, left = (high - size_px) // 2, (wide - size_px) // 2
  x = x[:, top : top + size_px, left : left + size_px] / 255
  return (x - jnp.array(MEAN)) / jnp.array(STD)
