# SPDX-License-Identifier: Apache-2.0
"""Features of clips in a folder, a file each: none is computed twice.

What stops a program costs the clip in work only: the next run asks what is
missing, and several processes may fill one folder.
"""

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lumiere_jax import media
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import Float

Features = Float[np.ndarray, " d"]

_NAME = "features"


class FeatureStore:
  """The features that one network makes of clips, by the clips' names.

  Attributes:
    folder: where they lie.
  """

  def __init__(
    self, folder: str | os.PathLike[str], made_with: Mapping[str, Any]
  ):
    """Opens a folder, or begins one.

    Args:
      folder: where they lie.
      made_with: all that they depend on beside the clips' names, as JSON can
        hold it: the network, what clips are made with, which frames are seen.

    Raises:
      UserError: features of something else lie there, or it cannot be written.
    """
    self.folder = Path(folder)
    media.claim(self.folder, made_with, f"the features in {folder}")

  def get(self, key: str) -> Features | None:
    """Features of a clip; None if there are none, or their file is damaged.

    Raises:
      UserError: the key is none.
    """
    path = self._path(key)
    try:
      # An archive has a checksum, an array's own file has none. NumPy leaves
      # damaged files open that it has opened itself.
      with path.open("rb") as file, np.load(file) as arrays:
        return arrays[_NAME]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
      return None

  def put(self, key: str, features: Features) -> None:
    """Keeps the features of a clip; whole ones that lie there stay.

    Raises:
      UserError: the key is none, or the file cannot be written.
    """
    path = self._path(key)
    if self.get(key) is not None:
      return
    path.unlink(missing_ok=True)  # What was damaged.
    try:
      with media.new_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{_NAME: features})
    except UserError:
      if self.get(key) is None:
        raise  # It was no other process that came first.

  def stacked(self, keys: Iterable[str]) -> Float[np.ndarray, "n d"]:
    """Features of all keys, in their order.

    Raises:
      UserError: some have none, or there is no key.
    """
    keys = list(keys)
    found = [self.get(key) for key in keys]
    without = [k for k, f in zip(keys, found, strict=True) if f is None]
    if without or not found:
      told = f", the first: {without[0]}" if without else ""
      raise UserError(
        f"{self.folder} has no features of {len(without)} of {len(keys)} "
        f"clips{told}"
      )
    return np.stack(found)

  def _path(self, key: str) -> Path:
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts:
      raise UserError(f"{key!r} is no name of a clip in a folder")
    return self.folder / f"{key}.npz"
