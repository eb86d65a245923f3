# SPDX-License-Identifier: Apache-2.0
"""Where the clips of an evaluation are made, and kept: none is made twice."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lumiere_jax import media, trials
from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.task import Material
from lumiere_jax.config import Config
from lumiere_jax.data import loader
from lumiere_jax.errors import UserError
from lumiere_jax.inference.prompt import Request
from lumiere_jax.linked import style_fingerprint


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
    made_with = {
      "weights_fingerprint": model.info.fingerprint,
      "data_fingerprint": loader.fingerprint(self.config.data),
      "seed": self.seed,
      "sampler": dataclasses.asdict(self.config.sampler),
      "windows": dataclasses.asdict(model.config.windows),
    }
    if model.config.style:
      made_with["style_fingerprint"] = style_fingerprint(model.config)
    return made_with

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
      _claim(kept, self.made_with(model) | made_with)
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


def _claim(clips_dir: Path, made_with: Mapping[str, Any]) -> None:
  """Notes what the clips of a folder are made with.

  Raises:
    UserError: those that lie there are made with something else.
  """
  note = clips_dir / "made_with.json"
  text = json.dumps(made_with, indent=2)
  if note.is_file():
    saved = json.loads(note.read_text())
    for name, value in json.loads(text).items():  # Tuples as lists.
      if saved.get(name) != value:
        raise UserError(
          f"the clips in --clips={clips_dir} are made with "
          f"{name}={saved.get(name)!r}, not {value!r}"
        )
    return
  with media.new_file(note) as temporary:
    temporary.write_text(text + "\n")
