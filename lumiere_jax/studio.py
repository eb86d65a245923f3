# SPDX-License-Identifier: Apache-2.0
"""Where the clips of an evaluation are made, and kept: none is made twice."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lumiere_jax import media, trials
from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.task import Material
from lumiere_jax.config import Config, SamplerConfig
from lumiere_jax.data import loader
from lumiere_jax.inference.prompt import Request
from lumiere_jax.linked import guide_fingerprint, style_fingerprint


class Studio:
  """Makes the clips of an evaluation, and keeps them.

  Attributes:
    config: of the model, its weights and the data set.
    seed: of the clips' noise.
    clips_dir: where they are kept; None keeps none.
  """

  def __init__(self, config: Config, seed: int, clips_dir: str | None):
    self.config, self.seed, self.clips_dir = config, seed, clips_dir

  def made_with(self, model: Lumiere) -> dict[str, Any]:
    """What the clips of a model depend on, beside caption and task."""
    return {
      "data_fingerprint": loader.fingerprint(self.config.data),
      **sampled_with(model, self.seed, self.config.sampler),
    }

  def maker(
    self,
    model: Lumiere,
    task: str,
    row: str,
    count: int,
    folder: str | None = None,
    **made_with: Any,
  ) -> trials.Make:
    """A function that makes the n-th clip of a row.

    Args:
      model: makes them.
      task: in which.
      row: their name.
      count: how many there will be.
      folder: of the row, in that of all; named like the row if not given.
      **made_with: what the clips depend on beside the model.

    Raises:
      UserError: other clips lie where they are to be kept.
    """
    kept = None
    if self.clips_dir:
      kept = Path(self.clips_dir) / (row if folder is None else folder)
      made_with = self.made_with(model) | made_with
      media.claim(kept, made_with, f"the clips in --clips={kept}")
    bar = tqdm(total=count, desc=folder or row, file=sys.stderr)

    def make(index: int, request: Request, material: Material) -> np.ndarray:
      path = kept and kept / f"{row}-{index:05d}.npy"
      if path and path.is_file():
        clip = np.load(path)
      else:
        clip = model.run(
          [request],
          seed=self.seed,
          task=task,
          material=material,
          sampler=self.config.sampler,
        )[0]
        if path:
          media.save_npy(path, clip)
      bar.update()
      if index + 1 == count:
        bar.close()
      return clip

    return make


def sampled_with(
  model: Lumiere, seed: int, sampler: SamplerConfig
) -> dict[str, Any]:
  """What the clips of a model depend on, beside prompt and task."""
  found = {
    "weights_fingerprint": model.info.fingerprint,
    "seed": seed,
    "sampler": dataclasses.asdict(sampler),
    "windows": dataclasses.asdict(model.config.windows),
  }
  if model.config.style:
    found["style_fingerprint"] = style_fingerprint(model.config)
  if sampler.autoguided:
    found["guide_fingerprint"] = guide_fingerprint(sampler)
  return found
