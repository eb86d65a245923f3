# SPDX-License-Identifier: Apache-2.0
"""Makes clips: python -m lumiere_jax.sample --config=... --prompt=... --out=...

Writes for each sample an MP4, an animated WebP, a contact sheet PNG and a JSON
sidecar with all that is needed to make it again (--replay); with --xt_slice a
picture of one row over time too, as in the paper's Fig. 2.
"""

import dataclasses
import json
import platform
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from lumiere_jax import cli, media
from lumiere_jax.api import Lumiere
from lumiere_jax.conditioning.seam import seam_report
from lumiere_jax.conditioning.style import ALPHAS
from lumiere_jax.conditioning.task import TASKS, Given, Material, prepare
from lumiere_jax.config import to_dict
from lumiere_jax.data.objects import is_world, prompt_note
from lumiere_jax.errors import UserError
from lumiere_jax.evaluation.segments import neighbour_mse, seam_strength
from lumiere_jax.inference.cascade import reduced
from lumiere_jax.inference.prompt import Request, file_stem, vbench_name
from lumiere_jax.job import Job, job_material, read_job
from lumiere_jax.linked import guide_fingerprint, style_fingerprint
from lumiere_jax.scoring.slices import periodicity, xt_slice

# Small clips are enlarged in the MP4 only: players blur what they enlarge.
_SEEN_SIZE_PX = 256
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "av", "lumiere_jax")


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  start = time.perf_counter()
  job, folder = read_job(argv, __doc__)
  material = job_material(job)
  with cli.output_folder("--out", folder) as out:
    _run(job, material, out, start)


def _run(job: Job, material: Material, out: Path, start: float) -> None:
  """Makes all clips of a job, and says where they lie."""
  cli.enable_compilation_cache()
  style = "" if job.style_sweep else job.config.style
  model = Lumiere.from_config(dataclasses.replace(job.config, style=style))
  for kind, (name, found) in _made_of(model, job).items():
    made_with = job.fingerprints.get(kind)
    if made_with not in (None, found):
      now = f"{name!r} holds {found[:12]}..." if found else "none is named"
      raise UserError(
        f"the clip was made with {kind} {made_with[:12]}..., but {now}"
      )
  loaded = time.perf_counter()
  print(
    f"{job.config.name}: {model.info.num_params:,} parameters; compiling",
    file=sys.stderr,
  )
  model.compile(task=job.task)
  if job.scale > 1:
    enlarge = TASKS[job.task].enlarged_by
    model.for_task(enlarge).compile(task=enlarge)
  compiled = time.perf_counter()
  if is_world(job.config.data.config):
    for prompt in dict.fromkeys(r.prompt for r in job.requests):
      if note := prompt_note(prompt):
        print(f"note: {note}", file=sys.stderr)
  timings = {
    "load_seconds": loaded - start,
    "compile_seconds": compiled - loaded,
  }
  if material.strength and not model.num_steps(job.task, material):
    print(
      f"note: --strength={material.strength} is less than half of one of "
      f"{job.config.sampler.steps} steps: the video stays as it is",
      file=sys.stderr,
    )
  for request in job.requests:
    paths = _make(model, job, request, material, out, dict(timings))
    print(f"{request.prompt}: {' '.join(str(p) for p in paths)}", flush=True)


def _make(
  model: Lumiere,
  job: Job,
  request: Request,
  material: Material,
  out: Path,
  timings: dict[str, float],
) -> list[Path]:
  """Samples one request and writes its files; returns their paths."""
  start = time.perf_counter()
  given = prepare(job.task, material, job.material_size)
  made = _sample(model, job, request, material, given)
  timings["run_seconds"] = time.perf_counter() - start
  sidecar = _sidecar(model, job, request, timings)
  small, large = ({k: v[i] for k, v in made.items()} for i in range(2))
  pixels = np.concatenate(list(large.values()), axis=-2)  # Side by side.
  low = None
  if job.scale > 1:
    low = np.concatenate(list(small.values()), axis=-2)
  row = TASKS[job.task]
  if row.clip and (row.upscales or job.scale > 1):
    borders = model.for_task("upscale").segment_borders()
    found = seam_strength(neighbour_mse(pixels), borders)
    if found and low is not None:
      # What changes there before segments are made: movement, not seams.
      before = seam_strength(neighbour_mse(low), borders)
      found["low_res_ratio"] = before["ratio"]
    sidecar["segments"] = found
  if given is not None:
    seams = {
      name: seam_report(clip, given.mask) for name, clip in large.items()
    }
    sidecar["seam"] = seams if job.style_sweep else seams[""]
  if job.xt_slice:
    found = {name: _periodicity(clip) for name, clip in large.items()}
    sidecar["periodicity"] = found if job.style_sweep else found[""]
  fps = job.config.data.fps
  with tempfile.TemporaryDirectory(prefix=".", dir=out) as scratch:
    stem, named = Path(scratch) / "clip", {}
    scale = 1 if job.names else None
    files = write_outputs(
      stem, pixels, fps, raw=job.raw, rows=large, scale=scale
    )
    if job.names:
      named[Path(f"{stem}.mp4")] = out / job.names / vbench_name(request)
    if job.xt_slice:
      files.append(Path(f"{stem}.xt.png"))
      media.write_png(files[-1], _enlarged(xt_slice(pixels)))
    if low is not None:
      files += write_outputs(f"{stem}.low", low, fps, raw=job.raw, rows=small)
    files.append(Path(f"{stem}.json"))
    files[-1].write_text(json.dumps(sidecar, indent=2) + "\n")
    return media.publish_together(files, out, file_stem(request), named)


def _periodicity(clip: np.ndarray) -> dict[str, float]:
  score, period = periodicity(clip)
  return {"score": score, "period_frames": period}


def _scale(width: int) -> int:
  """How many times small clips and slices are enlarged, to be seen."""
  return max(1, _SEEN_SIZE_PX // width)


def _enlarged(image: np.ndarray) -> np.ndarray:
  scale = _scale(image.shape[1])
  return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _sample(
  model: Lumiere,
  job: Job,
  request: Request,
  material: Material,
  given: Given | None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """What the model made and what became of it, for each alpha of a sweep."""
  models = {"": model}
  if job.style_sweep:
    style = job.config.style
    models = {f"alpha {a:g}": model.with_style(style, a) for a in ALPHAS}
  small = reduced(material, job.scale) if job.scale > 1 else material
  steps = model.num_steps(job.task, small)
  if job.scale > 1:
    enlarge = TASKS[job.task].enlarged_by
    steps += model.for_task(enlarge).num_steps(enlarge, Material())
  options = {"seed": job.seed, "negative_prompt": job.negative_prompt}
  made = {}
  bar = tqdm(total=len(models) * steps, unit="step", desc=request.prompt[:40])
  with bar:
    options["on_step"] = bar.update
    for name, one in models.items():
      clips = one.run([request], task=job.task, material=small, **options)
      enlarged = clips
      if job.scale > 1:
        enlarged = one.upscale(clips, [request], **options)
        # What was given is known in all its pixels.
        if given is not None:
          enlarged = np.where(given.mask, given.pixels, enlarged)
      made[name] = clips[0], enlarged[0]
  return made


def write_outputs(
  stem: Path | str,
  pixels: np.ndarray,
  fps: int,
  *,
  raw: bool,
  rows: Mapping[str, np.ndarray],
  scale: int | None = None,
) -> list[Path]:
  """Writes a clip (t, h, w, 3) as MP4, WebP and sheet, or an image as PNG.

  Args:
    stem: what the files' names begin with.
    pixels: clip or image, uint8.
    fps: frames a second.
    raw: whether to write the array too.
    rows: what the sheet shows below each other, by their captions.
    scale: every pixel of the MP4 becomes scale x scale; None enlarges what is
      small.
  """
  paths = []

  def path(suffix: str) -> Path:
    paths.append(Path(f"{stem}{suffix}"))
    return paths[-1]

  if pixels.ndim == 3:
    media.write_png(path(".png"), pixels)
  else:
    seen = _scale(pixels.shape[1])
    media.write_mp4(path(".mp4"), pixels, fps, scale=scale or seen)
    media.write_webp(path(".webp"), pixels, fps)
    larger = max(1, seen // 2)
    sheet = media.contact_sheet(pixels, scale=larger)
    if len(rows) > 1:
      sheet = media.contact_sheet_many(rows, scale=larger)
    media.write_png(path(".png"), sheet)
  if raw:
    media.save_npy(path(".npy"), pixels)
  return paths


def _sidecar(
  model: Lumiere, job: Job, request: Request, timings: dict[str, float]
) -> dict[str, Any]:
  return {
    "prompt": request.prompt,
    "sample_id": request.sample_id,
    "seed": job.seed,
    "negative_prompt": job.negative_prompt,
    "task": job.task,
    "raw": job.raw,
    "sources": job.sources.given(),
    "style_sweep": job.style_sweep,
    "xt_slice": job.xt_slice,
    "file_hashes": job.file_hashes,
    "config": to_dict(job.config),
    **{f"{k}_fingerprint": v for k, (_, v) in _made_of(model, job).items()},
    "timings": timings,
    "versions": {name: _version(name) for name in _PACKAGES},
    "python": platform.python_version(),
    "device": jax.devices()[0].device_kind,
  }


def _made_of(model: Lumiere, job: Job) -> dict[str, tuple[str, str | None]]:
  """Name and fingerprint of all weights that a clip is made with."""
  cfg = job.config
  found = {
    "weights": (cfg.weights, model.info.fingerprint),
    "style": (cfg.style, style_fingerprint(cfg)),
    "guide": (cfg.sampler.guide, guide_fingerprint(cfg.sampler)),
    "upscaler": ("", None),
    "upscaler_guide": ("", None),
  }
  if job.scale > 1:
    upscaler = model.for_task("upscale")
    sampler = upscaler.config.sampler
    found["upscaler"] = cfg.upscaler, upscaler.info.fingerprint
    found["upscaler_guide"] = sampler.guide, guide_fingerprint(sampler)
  return found


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


if __name__ == "__main__":
  cli.run(main)
