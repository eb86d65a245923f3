# SPDX-License-Identifier: Apache-2.0
"""The zero-shot protocol of UCF-101: how many clips of which class.

The paper (appendix, after Make-A-Video and Ge et al.) makes 10,235 clips that
follow the classes' distribution, a prompt for each class, and scores the first
16 frames. Its counts and prompts are not told: these are ours.
"""

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

CLIPS = 10_235
FRAMES = 16
_CLASSES = (
  Path(__file__).resolve().parent.parent / "assets" / "ucf101" / "classes.csv"
)
# FVD and Inception score of others and of the paper, as its Table 1 tells them;
# none was measured here.
PUBLISHED: Mapping[str, tuple[float, float | None]] = {
  "MagicVideo": (655.00, None),
  "Emu Video": (606.20, 42.70),
  "Video LDM": (550.61, 33.45),
  "Show-1": (394.46, 35.42),
  "Make-A-Video": (367.23, 33.00),
  "PYoCo": (355.19, 47.76),
  "SVD": (242.02, None),
  "Lumiere": (332.49, 37.54),
}


class Category(NamedTuple):
  """A class of UCF-101.

  Attributes:
    name: as its folder is called.
    videos: of it in split 1, training and testing together.
    prompt: that clips of it are made for.
  """

  name: str
  videos: int
  prompt: str


def read_categories() -> list[Category]:
  """All 101, in the order of their names."""
  with _CLASSES.open(encoding="utf-8", newline="") as file:
    return [
      Category(row["class"], int(row["videos"]), row["prompt"])
      for row in csv.DictReader(file)
    ]


def share_out(counts: list[int], total: int) -> list[int]:
  """Whole numbers of the given sum, in proportion (largest remainders).

  Among equal remainders the first comes first.
  """
  exact = np.array(counts, float) * total / sum(counts)
  found = np.floor(exact).astype(int)
  order = np.argsort(-(exact - found), kind="stable")
  found[order[: total - found.sum()]] += 1
  return found.tolist()


def shuffled_clips(total: int, seed: int) -> list[Category]:
  """The category of each clip in the order in which they are made.

  A permutation fixed by the seed, the same on every machine: any part of the
  clips, as one of the Inception Score's, has about the classes of all.
  """
  clips = clips_to_make(total)
  order = np.random.Generator(np.random.PCG64(seed)).permutation(total)
  return [clips[i] for i in order]


def prompts_fingerprint() -> str:
  """SHA-256 of the classes, their counts and their prompts."""
  return hashlib.sha256(_CLASSES.read_bytes()).hexdigest()


def clips_to_make(total: int = CLIPS) -> list[Category]:
  """The category of each clip, class by class."""
  categories = read_categories()
  shares = share_out([c.videos for c in categories], total)
  return [c for c, n in zip(categories, shares, strict=True) for _ in range(n)]
