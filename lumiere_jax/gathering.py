# SPDX-License-Identifier: Apache-2.0
"""Features of the clips of a zero-shot protocol, by one process or several.

Prompt and noise of a clip depend on its number alone, and features are kept
clip by clip: whoever makes which, and however often it is stopped, they are the
same.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from lumiere_jax import media
from lumiere_jax.api import Lumiere
from lumiere_jax.extractors import Extractor
from lumiere_jax.feature_store import FeatureStore
from lumiere_jax.inference.generate import batches
from lumiere_jax.inference.prompt import Request
from lumiere_jax.scores import Cut, Folder
from lumiere_jax.scoring import canaries
from lumiere_jax.scoring.protocol import Protocol
from lumiere_jax.scoring.zero_shot import prompts_fingerprint, shuffled_clips
from lumiere_jax.shapes import UInt8
from lumiere_jax.studio import sampled_with
from lumiere_jax.weights import folder

Clip = UInt8[np.ndarray, "t h w 3"]


@dataclasses.dataclass(frozen=True)
class Share:
  """Which part of the work a process does: every `count`-th of it.

  Attributes:
    index: of the process.
    count: of all processes.
  """

  index: int
  count: int

  @classmethod
  def mine(cls) -> "Share":
    """This process' part."""
    return cls(jax.process_index(), jax.process_count())

  def of(self, items: Sequence[Any]) -> Sequence[Any]:
    """The part of some items."""
    return items[self.index :: self.count]

  def meet(self, name: str) -> None:
    """Waits until all processes are here."""
    if self.count > 1:
      multihost_utils.sync_global_devices(name)


def cut_of(protocol: Protocol) -> Cut:
  """Which frames of a real clip are scored."""
  return Cut(frames=protocol.frames, fps=protocol.real_fps)


class _Kept:
  """The stores of one set of clips, one for each network."""

  def __init__(
    self,
    place: Path,
    networks: Mapping[str, Extractor],
    made_with: Mapping[str, Any],
  ):
    """Raises UserError if what lies there is made with something else."""
    self._networks = dict(networks)
    self.stores = {
      name: FeatureStore(
        place / f"{network.kind}-{network.fingerprint[:12]}",
        {
          **made_with,
          "network": network.kind,
          "network_sha256": network.fingerprint,
          "resize": network.resize,
        },
      )
      for name, network in networks.items()
    }

  def lacks(self, key: str) -> bool:
    """Whether a network has not seen a clip."""
    return any(store.get(key) is None for store in self.stores.values())

  def put(self, key: str, clip: Clip) -> None:
    """Shows a clip to the networks that have not seen it."""
    for name, store in self.stores.items():
      if store.get(key) is None:
        store.put(key, self._networks[name](clip))


class Generated:
  """The clips that a model makes by a protocol.

  Attributes:
    keys: names of all clips, in their order.
    stores: features of each network, by its name.
    made_with: what clips depend on beside their numbers: weights, sampler,
      text, prompts.
  """

  def __init__(
    self, model: Lumiere, protocol: Protocol, networks: Mapping[str, Extractor]
  ):
    """Opens what is kept in the protocol's folder of work; makes nothing.

    Raises:
      UserError: something else is kept there, or it cannot be written to.
    """
    self._model, self._protocol = model, protocol
    self.made_with = made_with = {
      **sampled_with(model, protocol.seed, model.config.sampler),
      "text": _text_made_with(model),
      "clips": protocol.clips,
      "prompts": prompts_fingerprint(),
    }
    place = Path(protocol.work)
    self._kept = _Kept(
      place / "generated", networks, {**made_with, "frames": protocol.frames}
    )
    self.stores = self._kept.stores
    self._clips_dir = place / "clips" if protocol.keep_clips else None
    if self._clips_dir:
      media.claim(self._clips_dir, made_with, f"the clips in {self._clips_dir}")
    categories = shuffled_clips(protocol.clips, protocol.seed)
    self._requests = [Request(c.prompt, i) for i, c in enumerate(categories)]
    self.keys = [f"{i:05d}" for i in range(protocol.clips)]

  def make(self, share: Share) -> None:
    """Makes what is missing of a share, and keeps its features.

    Always in the same batches, of which whole ones are shared out: with
    another one beside it a clip might be rounded in another way.

    Raises:
      UserError: the devices cannot share a batch, or the disk is full.
    """
    parts = share.of(batches(range(len(self.keys)), self._protocol.batch))
    parts = [part for part in parts if any(map(self._lacks, part))]
    for part in _bar(parts, "batches of generated clips"):
      numbers = [i for i in dict.fromkeys(part) if self._lacks(i)]
      clips = {i: self._load(i) for i in numbers}
      if any(clip is None for clip in clips.values()):
        made = self._model.run(
          [self._requests[i] for i in part], seed=self._protocol.seed
        )
        for i, clip in zip(part, made, strict=True):
          if i in clips and clips[i] is None:
            clips[i] = clip
            self._save(i, clip)
      for i, clip in clips.items():
        self._kept.put(self.keys[i], clip[: self._protocol.frames])

  def _lacks(self, number: int) -> bool:
    if self._clips_dir and self._load(number, whole=False) is None:
      return True
    return self._kept.lacks(self.keys[number])

  def _file(self, number: int) -> Path:
    return self._clips_dir / f"{self.keys[number]}.npy"

  def _load(self, number: int, *, whole: bool = True) -> Clip | None:
    """A clip that is kept; None if there is none, or its file is damaged.

    If not `whole`, its file is looked at and not read.
    """
    if not self._clips_dir:
      return None
    try:
      clip = np.load(self._file(number), mmap_mode=None if whole else "r")
    except (OSError, ValueError, EOFError):
      return None
    fits = clip.shape == (*self._model.clip_size, 3)
    return clip if fits and clip.dtype == np.uint8 else None

  def _save(self, number: int, clip: Clip) -> None:
    if self._clips_dir:
      self._file(number).unlink(missing_ok=True)  # What was damaged.
      media.save_npy(self._file(number), clip)


class Real:
  """The real clips that a protocol's folder holds, and canaries of them.

  Attributes:
    files: all of them, by name.
    stores: features of each network, by its name.
    spoilt: features that a distance's network makes of canaries, by
      `canary_key`.
    left_out: why a file is in none of them, as far as `read` has seen.
    fingerprint: SHA-256 of the files' names and sizes.
  """

  def __init__(
    self,
    found: Folder,
    protocol: Protocol,
    networks: Mapping[str, Extractor],
  ):
    """Opens what is kept in the protocol's folder of work; reads nothing.

    Raises:
      UserError: something else is kept there, or it cannot be written to.
    """
    self._cut = cut_of(protocol)
    self.files = {f.relative_to(found.path).as_posix(): f for f in found.files}
    self.left_out: dict[str, str] = {}
    self.fingerprint = _listing(self.files)
    made_with = {
      "frames": self._cut.frames,
      "fps": self._cut.fps,
      "clip_rule": self._cut.rule,
      "files": len(self.files),
      "files_sha256": self.fingerprint,
    }
    work = Path(protocol.work)
    self._kept = _Kept(work / "real", networks, made_with)
    self.stores = self._kept.stores
    self._seed = protocol.seed
    # Of what distances see; an Inception Score has no reference to be near.
    seen = {k: v for k, v in networks.items() if k == "i3d"}
    self._canaries = _Kept(
      work / "canaries", seen, {**made_with, "seed": protocol.seed}
    )
    self.spoilt = self._canaries.stores

  def read(self, share: Share) -> None:
    """Reads what is missing of a share, and keeps its features."""
    names = share.of(list(self.files))
    for name in _bar(list(filter(self._kept.lacks, names)), "real clips"):
      try:
        clip, _ = self._cut.read(self.files[name])
      except (ValueError, EOFError) as error:  # A UserError is a ValueError.
        self.left_out[name] = str(error)
        continue
      self._kept.put(name, clip)

  def spoil(self, share: Share) -> None:
    """Spoils what is missing of a share, and keeps the features.

    Of every second clip that could be read, so that all must have been.
    """
    parts = list(enumerate(self._readable()))[1::2]
    missing = [
      (index, name)
      for index, name in share.of(parts)
      if any(
        self._canaries.lacks(canary_key(canary, name))
        for canary in canaries.CANARIES
      )
    ]
    for index, name in _bar(missing, "canaries"):
      clip, _ = self._cut.read(self.files[name])
      for canary in canaries.CANARIES:
        spoilt = canaries.spoil(canary, clip, self._seed, index)
        self._canaries.put(canary_key(canary, name), spoilt)

  def _readable(self) -> list[str]:
    """Names of the clips that some process could read."""
    return [name for name in self.files if not self._kept.lacks(name)]

  @property
  def keys(self) -> list[str]:
    """Names of the clips that could be read."""
    return [name for name in self.files if name not in self.left_out]


def canary_key(canary: str, name: str) -> str:
  """What a real clip is called when it is spoilt."""
  return f"{canary}/{name}"


def _bar(items: Sequence[Any], told: str) -> tqdm:
  """The items, with a bar of progress if there are any."""
  return tqdm(items, desc=told, file=sys.stderr, disable=not items)


def _listing(files: Mapping[str, Path]) -> str:
  """SHA-256 of names and sizes: whether a folder is the same."""
  sizes = {name: path.stat().st_size for name, path in files.items()}
  return hashlib.sha256(json.dumps(sizes, sort_keys=True).encode()).hexdigest()


def _text_made_with(model: Lumiere) -> dict[str, Any]:
  """What the encoded prompts depend on."""
  text = model.config.text
  fields = ("encoder", "lower_case", "max_tokens", "dtype")
  found: dict[str, Any] = {name: getattr(text, name) for name in fields}
  if text.weights:
    found["fingerprint"] = folder.load_info(text.weights).fingerprint
  return found
