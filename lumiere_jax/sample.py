# SPDX-License-Identifier: Apache-2.0
"""Makes clips: python -m lumiere_jax.sample --config=... --prompt=... --out=...

Writes for each sample an MP4, an animated WebP, a contact sheet PNG and a JSON
sidecar with all that is needed to make it again (--replay).
"""

import argparse
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
from lumiere_jax.api import Lumiere, style_fingerprint, weights_config
from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.seam import seam_report
from lumiere_jax.conditioning.style import ALPHAS
from lumiere_jax.conditioning.task import STRENGTH, TASKS, Material, prepare
from lumiere_jax.config import Config, to_dict
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.inference.material import (
  FILES,
  Sources,
  check_sources,
  file_hashes,
  read_material,
  saved_sources,
)
from lumiere_jax.inference.prompt import (
  Request,
  check_prompt,
  file_stem,
  read_prompts,
  requests,
)

# Small clips are enlarged in the MP4 only: players blur what they enlarge.
_MP4_SIZE_PX = 256
_SOURCES = tuple(f.name for f in dataclasses.fields(Sources))
_PACKAGES = ("jax", "jaxlib", "flax", "numpy", "av", "lumiere_jax")


@dataclasses.dataclass
class Plan:
  """What one call of the program makes; all of it goes into the sidecars."""

  config: Config
  requests: list[Request]
  task: str
  seed: int
  negative_prompt: str
  raw: bool
  sources: Sources
  style_sweep: bool = False
  fingerprint: str | None = None
  style_fingerprint: str | None = None
  file_hashes: dict[str, str] | None = None


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  start = time.perf_counter()
  parser = _parser()
  args, overrides = cli.parse(parser, argv)
  plan = _replay(args, overrides) if args.replay else _plan(args, overrides)
  material = _material(plan)
  with cli.output_folder("--out", args.out) as out:
    _run(plan, material, out, start)


def _run(plan: Plan, material: Material, out: Path, start: float) -> None:
  """Makes all clips of a plan, and says where they lie."""
  cli.enable_compilation_cache()
  style = "" if plan.style_sweep else plan.config.style
  model = Lumiere.from_config(dataclasses.replace(plan.config, style=style))
  config = plan.config
  for kind, name, made_with, found in (
    ("weights", config.weights, plan.fingerprint, model.info.fingerprint),
    ("style", config.style, plan.style_fingerprint, style_fingerprint(config)),
  ):
    if made_with not in (None, found):
      raise UserError(
        f"the clip was made with {kind} {made_with[:12]}..., but {name!r} "
        f"holds {found[:12]}..."
      )
  loaded = time.perf_counter()
  print(
    f"{plan.config.name}: {model.info.num_params:,} parameters; compiling",
    file=sys.stderr,
  )
  model.compile(task=plan.task)
  compiled = time.perf_counter()
  timings = {
    "load_seconds": loaded - start,
    "compile_seconds": compiled - loaded,
  }
  for request in plan.requests:
    paths = _make(model, plan, request, material, out, dict(timings))
    print(f"{request.prompt}: {' '.join(str(p) for p in paths)}", flush=True)


def _parser() -> argparse.ArgumentParser:
  parser = cli.Parser(prog="lumiere_jax.sample", description=__doc__)
  add = parser.add_argument
  add("--config", help="a configs/*.py file")
  add("--weights", help="weights folder, or the name of shipped ones")
  add("--text_encoder", help="weights folder of the text encoder")
  add("--prompt", action="append", default=[], help="may be repeated")
  add("--prompts", help="text file with a prompt on each line")
  add("--negative_prompt", help="what guidance leads away from")
  add("--task", help="; ".join(f"{k}: {t.summary}" for k, t in TASKS.items()))
  add("--image", help="image to begin with, or to bring to life")
  add("--last_image", help="image to end with")
  add("--video", help="video to change or to continue")
  add("--mask", help="white is generated: image, video or box:x0,y0,x1,y1")
  add("--keep", help="white is kept; in place of --mask")
  add("--frames_given", type=int, help="frames of the video that are given")
  add(
    "--strength",
    type=float,
    help="0 keeps the video, 1 nothing of it; 0.6 if not given",
  )
  add("--style", help="shipped style, or weights folder, to draw towards")
  add("--style_alpha", type=float, help="how far, 0 to 1; 0.7 if not given")
  add("--style_sweep", action="store_true", help="several alphas side by side")
  add(
    "--fit",
    help="crop, pad or stretch what is of another shape; with "
    "outpaint, pad makes what is missing",
  )
  add("--out", default="out", help="folder to write to")
  add("--seed", type=int, help="0 if not given")
  add("--num_samples", type=int, help="of each prompt")
  add("--guidance", type=float, help="scale; 1 is none")
  add("--steps", type=int, help="denoising steps")
  add("--sampler", help="ddpm, ddim or dpmpp_2m")
  add("--raw", action="store_true", help="write the uint8 clip as .npy too")
  add(
    "--replay",
    help="JSON sidecar of a clip to make again; its files may be given anew",
  )
  return parser


def _plan(args: argparse.Namespace, overrides: dict[str, str]) -> Plan:
  prompts = read_prompts(args.prompt, args.prompts)
  task = next(iter(TASKS)) if args.task is None else args.task
  if task not in TASKS:
    raise UserError(f"unknown --task={task!r}{nearest(task, TASKS)}")
  sources = Sources(**{k: getattr(args, k) for k in _SOURCES})
  if TASKS[task].from_clip and sources.strength is None:
    sources = dataclasses.replace(sources, strength=STRENGTH)
  check_sources(task, sources)
  for flag in ("style_sweep", "style_alpha"):
    if getattr(args, flag) not in (None, False) and not args.style:
      raise UserError(f"--{flag} needs --style")
  if args.style_sweep and args.style_alpha is not None:
    raise UserError("--style_sweep goes through all alphas: no --style_alpha")
  file = cli.read_config(args.config) if args.config else {}
  flags = cli.as_overrides(
    {
      "sampler.guidance": args.guidance,
      "sampler.steps": args.steps,
      "sampler.name": args.sampler,
      "text.weights": args.text_encoder or None,
      "style": args.style,
      "style_alpha": args.style_alpha,
    }
  )
  num_samples = 1 if args.num_samples is None else args.num_samples
  name = args.weights or file.get("weights", "")
  return Plan(
    config=_config(name, file, flags | overrides, task),
    requests=requests(prompts, num_samples),
    task=task,
    seed=cli.check_seed(args.seed or 0),
    negative_prompt=args.negative_prompt or "",
    raw=args.raw,
    sources=sources,
    style_sweep=args.style_sweep,
  )


def _config(
  name: str,
  file: Mapping[str, Any],
  overrides: Mapping[str, str],
  task: str,
) -> Config:
  """The configuration of the weights that do the task: named or conditional."""
  config = cli.resolve(weights_config(name, file), overrides)
  if not TASKS[task].masked or config.condition.kind == "mask":
    return config
  if not config.conditional:
    raise UserError(
      f"task {task!r} needs weights that see what is given, which {name!r} "
      "has not; give --weights=DIR of such, or --config.conditional=DIR"
    )
  return cli.resolve(weights_config(config.conditional, file), overrides)


def _replay(args: argparse.Namespace, overrides: dict[str, str]) -> Plan:
  """The plan that a sidecar tells; it takes no other choices beside it."""
  given = [f"--config.{name}" for name in overrides] + [
    f"--{name}"
    for name, value in vars(args).items()
    if name not in ("replay", "out", "weights", "text_encoder", "raw", *FILES)
    and not (value is None or value is False or value == [])
  ]
  if given:
    raise UserError(
      f"--replay takes all from the sidecar; it does not go with {given[0]}"
    )
  try:
    saved = json.loads(Path(args.replay).read_text(encoding="utf-8"))
    request = Request(check_prompt(saved["prompt"]), int(saved["sample_id"]))
    values = saved["config"]
    plan = Plan(
      config=cli.resolve(values, {}),
      requests=[request],
      task=saved["task"],
      seed=cli.check_seed(saved["seed"]),
      negative_prompt=saved["negative_prompt"],
      raw=args.raw or saved["raw"],
      sources=saved_sources(saved.get("sources", {}) | _files(args, saved)),
      style_sweep=saved.get("style_sweep", False),
      fingerprint=saved["weights_fingerprint"],
      style_fingerprint=saved.get("style_fingerprint"),
      file_hashes=saved.get("file_hashes"),
    )
  except UserError:
    raise
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f"cannot replay {args.replay!r}: {error!r}") from error
  if args.weights:
    plan.config = dataclasses.replace(plan.config, weights=args.weights)
  if args.text_encoder:
    text = dataclasses.replace(plan.config.text, weights=args.text_encoder)
    plan.config = dataclasses.replace(plan.config, text=text)
  return plan


def _files(
  args: argparse.Namespace, saved: Mapping[str, Any]
) -> dict[str, str]:
  """Where the files of a sidecar lie now, if flags say so.

  Raises:
    UserError: the clip was made without such a file.
  """
  files = {k: v for k in FILES if (v := getattr(args, k)) is not None}
  for name in files:
    if name not in saved.get("sources", {}):
      raise UserError(f"--{name}: the clip to replay was made without")
  return files


def _material(plan: Plan) -> Material:
  """Reads and checks the material, before anything slow is done."""
  cfg = plan.config.data
  size = Size(cfg.num_frames, cfg.size_px, cfg.size_px)
  material, notes = read_material(plan.task, plan.sources, size, cfg.fps)
  hashes = file_hashes(plan.sources)
  for name in {**hashes, **(plan.file_hashes or hashes)}:
    if hashes.get(name) != (plan.file_hashes or hashes).get(name):
      raise UserError(
        f"--{name}={plan.sources.given().get(name)!r} is not what it was when "
        "the clip to replay was made"
      )
  plan.file_hashes = hashes
  prepare(plan.task, material, size)
  for note in notes:
    print(f"note: {note}", file=sys.stderr)
  return material


def _make(
  model: Lumiere,
  plan: Plan,
  request: Request,
  material: Material,
  out: Path,
  timings: dict[str, float],
) -> list[Path]:
  """Samples one request and writes its files; returns their paths."""
  start = time.perf_counter()
  models = {"": model}
  if plan.style_sweep:
    style = plan.config.style
    models = {f"alpha {a:g}": model.with_style(style, a) for a in ALPHAS}
  steps = len(models) * model.num_steps(plan.task, material)
  clips = {}
  with tqdm(total=steps, unit="step", desc=request.prompt[:40]) as bar:
    for name, one in models.items():
      (clips[name],) = one.run(
        [request],
        seed=plan.seed,
        negative_prompt=plan.negative_prompt,
        task=plan.task,
        material=material,
        on_step=bar.update,
      )
  pixels = np.concatenate(list(clips.values()), axis=-2)  # Side by side.
  timings["run_seconds"] = time.perf_counter() - start
  with tempfile.TemporaryDirectory(prefix=".", dir=out) as scratch:
    stem = Path(scratch) / "clip"
    files = write_outputs(
      stem, pixels, plan.config.data.fps, raw=plan.raw, rows=clips
    )
    files.append(Path(f"{stem}.json"))
    sidecar = _sidecar(model, plan, request, timings)
    given = prepare(plan.task, material, model.clip_size)
    if given is not None and not plan.style_sweep:
      sidecar["seam"] = seam_report(pixels, given.mask)
    files[-1].write_text(json.dumps(sidecar, indent=2) + "\n")
    return media.publish_together(files, out, file_stem(request))


def write_outputs(
  stem: Path,
  pixels: np.ndarray,
  fps: int,
  *,
  raw: bool,
  rows: Mapping[str, np.ndarray],
) -> list[Path]:
  """Writes a clip (t, h, w, 3) as MP4, WebP and sheet, or an image as PNG.

  Args:
    stem: what the files' names begin with.
    pixels: clip or image, uint8.
    fps: frames a second.
    raw: whether to write the array too.
    rows: what the sheet shows below each other, by their captions.
  """
  paths = []

  def path(suffix: str) -> Path:
    paths.append(Path(f"{stem}{suffix}"))
    return paths[-1]

  if pixels.ndim == 3:
    media.write_png(path(".png"), pixels)
  else:
    scale = max(1, _MP4_SIZE_PX // pixels.shape[1])
    media.write_mp4(path(".mp4"), pixels, fps, scale=scale)
    media.write_webp(path(".webp"), pixels, fps)
    larger = max(1, scale // 2)
    sheet = media.contact_sheet(pixels, scale=larger)
    if len(rows) > 1:
      sheet = media.contact_sheet_many(rows, scale=larger)
    media.write_png(path(".png"), sheet)
  if raw:
    media.save_npy(path(".npy"), pixels)
  return paths


def _sidecar(
  model: Lumiere, plan: Plan, request: Request, timings: dict[str, float]
) -> dict[str, Any]:
  return {
    "prompt": request.prompt,
    "sample_id": request.sample_id,
    "seed": plan.seed,
    "negative_prompt": plan.negative_prompt,
    "task": plan.task,
    "raw": plan.raw,
    "sources": plan.sources.given(),
    "style_sweep": plan.style_sweep,
    "file_hashes": plan.file_hashes,
    "config": to_dict(plan.config),
    "weights_fingerprint": model.info.fingerprint,
    "style_fingerprint": style_fingerprint(plan.config),
    "timings": timings,
    "versions": {name: _version(name) for name in _PACKAGES},
    "python": platform.python_version(),
    "device": jax.devices()[0].device_kind,
  }


def _version(package: str) -> str | None:
  try:
    return metadata.version(package)
  except metadata.PackageNotFoundError:
    return None


if __name__ == "__main__":
  cli.run(main)
