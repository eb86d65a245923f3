# SPDX-License-Identifier: Apache-2.0
"""A folder of real encoded clips, a third of them of no use."""

import csv

import numpy as np
from PIL import Image

from tests import video_files

# What is in it, and why the last four cannot be used.
GOOD = (*(f"sub/v{n}.mp4" for n in range(6)), "w.mkv", "x.avi")
BROKEN = {
  "empty.mp4": "empty",
  "noise.mp4": "unreadable",
  "short.mp4": "too short",
  "sound.mp4": "no video",
}


def make(folder, *, broken=True, captions="txt"):
  """Fills a folder; every file has a caption of its name."""
  (folder / "sub").mkdir(parents=True)
  for name in GOOD:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    video_files.write_video(folder / name, seconds=1.2, codec=codec)
  if broken:
    (folder / "empty.mp4").touch()
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 9)
    video_files.write_video(folder / "short.mp4", seconds=0.2)
    video_files.write_sound(folder / "sound.mp4")
  names = [*GOOD, *(BROKEN if broken else ())]
  rows = [{"file": name, "caption": caption(name)} for name in names]
  if captions == "txt":
    for row in rows:
      path = (folder / row["file"]).with_suffix(".txt")
      path.write_text(row["caption"] + "\n")
  elif captions == "csv":
    with (folder / "captions.csv").open("w", newline="") as file:
      writer = csv.DictWriter(file, ("file", "caption"))
      writer.writeheader()
      writer.writerows(rows)
  return folder


def caption(name):
  return f"the clip {name.rpartition('/')[2].partition('.')[0]}"


def make_images(folder, count=3):
  """Fills a folder with images of one colour each, and a list of them."""
  folder.mkdir()
  lines = []
  for n in range(count):
    pixels = np.full((24, 24, 3), 30 + 60 * n, np.uint8)
    Image.fromarray(pixels).save(folder / f"i{n}.png")
    lines.append(f'{{"image": "i{n}.png", "text": "image {n}"}}\n')
  (folder / "list.jsonl").write_text("".join(lines))
  return folder
