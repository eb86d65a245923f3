# SPDX-License-Identifier: Apache-2.0
"""Trains variants of a recipe on stills, equally long, and compares them.

python docs/recipe.py --sprites=sprites --work=runs/recipe --out=docs/recipe

Each variant is configs/demo64_t2i.py with some fields set. Stills are made of
the first captions of the held-out split, with the same noise for all. Writes
docs/recipe.json and a sheet of each variant's first stills. Runs that are
complete in --work are not made again.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lumiere_jax import Lumiere, cli
from lumiere_jax.config import SamplerConfig
from lumiere_jax.data.render import ClipSize
from lumiere_jax.data.sprite_source import SpriteSource
from lumiere_jax.data.world import BACKGROUNDS
from lumiere_jax.evaluation import Gallery
from lumiere_jax.evaluation.background import background_noise, nearest_color
from lumiere_jax.evaluation.foreground import segment
from lumiere_jax.evaluation.report import wilson_interval

CONFIG = "configs/demo64_t2i.py"
# Of 32 objects: of 200, so short runs draw none well enough to compare.
COMMON = {
  "data.config": "demo",
  "train.steps": 2000,
  "train.eval_every": 500,
  "train.eval_clips": 256,
  "model.block_out_channels": (48, 96, 144),
}
V = {"diffusion.prediction": "v", "diffusion.weighting": "uniform"}
X0 = {"diffusion.prediction": "x0", "diffusion.weighting": "uniform"}


def weighted(cap: float) -> dict:
  return X0 | {"diffusion.weighting": "v", "diffusion.weighting_cap": cap}


LOGIT_NORMAL = {"diffusion.timestep_distribution": "logit_normal"}
MUON = {"train.optimizer": "muon"}
VARIANTS = {
  "v": V,
  "x0": X0,
  "x0, v-weight to 10": weighted(10.0),
  "x0, v-weight to 100": weighted(100.0),
  "x0, v-weight to 10, logit-normal": weighted(10.0) | LOGIT_NORMAL,
  "x0, v-weight to 10, Muon": weighted(10.0) | MUON,
}
STILLS = 200
GALLERY_SCENES, GALLERY_FRAMES = 3, 8  # of each object
SAMPLER = SamplerConfig(guidance_interval=(0.4, 1.0))
SHOWN = 16  # stills of a sheet


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--sprites", default="sprites")
  parser.add_argument("--work", required=True)
  parser.add_argument(
    "--out", required=True, help="what files' names begin with"
  )
  parser.add_argument("names", nargs="*", help="variants; all if none is given")
  args = parser.parse_args()
  cli.enable_compilation_cache()
  names = args.names or list(VARIANTS)
  source = Path(f"{args.out}.json")
  report = json.loads(source.read_text()) if source.is_file() else {}
  for name in names:
    workdir = Path(args.work) / name.replace(", ", "_").replace(" ", "_")
    if not is_done(workdir):
      train(workdir, COMMON | VARIANTS[name], args.sprites)
    report[name] = measure(workdir, args)
    source.write_text(json.dumps(report, indent=1) + "\n")
    print(name, json.dumps(report[name]))


def is_done(workdir: Path) -> bool:
  """Whether the run has made all its steps; one that was stopped goes on."""
  metrics = workdir / "metrics.jsonl"
  if not metrics.is_file():
    return False
  last = json.loads(metrics.read_text().splitlines()[-1])
  return last["step"] == COMMON["train.steps"]


def train(workdir: Path, fields: dict, sprites: str) -> None:
  flags = [f"--config.{name}={value}" for name, value in fields.items()]
  command = [sys.executable, "-m", "lumiere_jax.train", f"--config={CONFIG}"]
  flags += [f"--workdir={workdir}", f"--config.data.data_dir={sprites}"]
  subprocess.run([*command, *flags], check=True)


def measure(workdir: Path, args: argparse.Namespace) -> dict:
  """What the averaged weights' stills show, and the run's held-out errors."""
  model = Lumiere.load(str(workdir / "weights"))
  data = dataclasses.replace(model.config.data, data_dir=args.sprites)
  held_out = SpriteSource(data, "held_out")
  captioned = held_out.scenes[:STILLS]
  stills = model.generate(
    [c.image_caption for c in captioned],
    task="text_to_image",
    sampler=SAMPLER,
    batch_size=50,
  )
  gallery = make_gallery(SpriteSource(data, "train"))
  rows = [
    judge(x, c.scene, gallery, held_out)
    for x, c in zip(stills, captioned, strict=True)
  ]
  sheet(stills[:SHOWN], [c.image_caption for c in captioned[:SHOWN]]).save(
    f"{args.out}_{workdir.name}.png"
  )
  found = {
    name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]
  }
  for name in ("background", "r1", "r5"):
    hits = round(found[name] * len(rows))
    found[f"{name}_interval"] = wilson_interval(hits, len(rows))
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  steps = [json.loads(line) for line in lines]
  found["held_out"] = {s["step"]: s["eval"] for s in steps if "eval" in s}
  speeds = [s["stills_per_second"] for s in steps if "stills_per_second" in s]
  found["stills_per_second"] = float(np.median(speeds))
  return found


def make_gallery(source: SpriteSource) -> Gallery:
  """Real frames of every object."""

  def clips() -> Iterator[tuple[np.ndarray, str]]:
    left = dict.fromkeys(range(len(source.infos)), GALLERY_SCENES)
    for index, captioned in enumerate(source.scenes):
      number = captioned.scene.object
      if left[number]:
        left[number] -= 1
        frames = np.linspace(0, 79, GALLERY_FRAMES).astype(int).tolist()
        rng = np.random.default_rng(index)
        clip = source[index].media.draw(rng, ClipSize(80, 64), frames)
        yield clip, source.infos[number].code

  return Gallery(clips())


def judge(still, scene, gallery, source) -> dict[str, float]:
  foreground = segment(still[None])
  ranking = gallery.rank(foreground)
  code = source.infos[scene.object].code
  color = nearest_color(foreground.background, BACKGROUNDS)
  noise = background_noise(still[None], foreground.mask)
  return {
    "background": color == scene.background,
    "r1": code in ranking[:1],
    "r5": code in ranking[:5],
    # An object that leaves no background has none.
    "background_noise": np.nan if noise is None else noise,
  }


def sheet(stills: np.ndarray, captions: list[str]) -> Image.Image:
  picture = Image.new("RGB", (4 * 260, -(-len(stills) // 4) * 150), "white")
  draw = ImageDraw.Draw(picture)
  for i, (still, caption) in enumerate(zip(stills, captions, strict=True)):
    x, y = i % 4 * 260, i // 4 * 150
    picture.paste(Image.fromarray(still).resize((128, 128), 0), (x, y))
    draw.text((x, y + 130), caption[:42], fill="black")
  return picture


if __name__ == "__main__":
  main()
