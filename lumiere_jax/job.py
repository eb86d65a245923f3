# SPDX-License-Identifier: Apache-2.0
"""What one call of `sample` makes, read off its flags or off a sidecar."""

import argparse
import collections
import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax import cli, media
from lumiere_jax.build import material_size
from lumiere_jax.conditioning.mask import Size
from lumiere_jax.conditioning.task import (
  STRENGTH,
  TASKS,
  Material,
  find_task,
  prepare,
)
from lumiere_jax.config import Config, to_dict
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.flags import parser
from lumiere_jax.inference.material import (
  FILES,
  Sources,
  check_sources,
  file_hashes,
  is_box,
  read_material,
  saved_sources,
)
from lumiere_jax.inference.prompt import (
  Request,
  check_prompt,
  read_prompts,
  requests,
  vbench_name,
)
from lumiere_jax.linked import (
  conditional_config,
  upscaler_config,
  weights_config,
)
from lumiere_jax.scoring.slices import SHORTEST

_NONE = type(None)
# All weights that a clip may be made with.
_WEIGHTS = ("weights", "style", "guide", "upscaler", "upscaler_guide")
# What a sidecar tells for a replay, and the types of it.
_SIDECAR: Mapping[str, tuple[type, ...]] = {
  "config": (dict,),
  "prompt": (str,),
  "sample_id": (int,),
  "seed": (int,),
  "negative_prompt": (str,),
  "task": (str,),
  "raw": (bool,),
  "weights_fingerprint": (str,),
  "style_fingerprint": (str, _NONE),
  "guide_fingerprint": (str, _NONE),
  "upscaler_fingerprint": (str, _NONE),
  "upscaler_guide_fingerprint": (str, _NONE),
  "sources": (dict, _NONE),
  "style_sweep": (bool, _NONE),
  "xt_slice": (bool, _NONE),
  "file_hashes": (dict, _NONE),
}
# Flags that --replay goes with, beside those of files.
_WITH_REPLAY = (
  *("replay", "out", "weights", "text_encoder"),
  *("raw", "xt_slice", "names"),
)
# Whose names clips can get.
NAMES = ("vbench",)
_SOURCES = tuple(f.name for f in dataclasses.fields(Sources))


@dataclasses.dataclass
class Job:
  """All of it goes into the sidecars.

  Attributes:
    config: resolved, of the weights that do the task.
    requests: the samples to make.
    task: in which.
    seed: of the noise.
    negative_prompt: what guidance leads away from.
    raw: whether to write arrays too.
    xt_slice: whether to write X-T slices too.
    names: whose names the clips get; "" is ours.
    sources: where the material lies.
    style_sweep: whether to make each sample at several alphas of the style.
    fingerprints: of the weights, style, upscaler and guides that the sidecar's
      clip was made with.
    file_hashes: of its material, likewise.
  """

  config: Config
  requests: list[Request]
  task: str
  seed: int
  negative_prompt: str
  raw: bool
  sources: Sources
  style_sweep: bool = False
  xt_slice: bool = False
  names: str = ""
  fingerprints: Mapping[str, str | None] = dataclasses.field(
    default_factory=dict
  )
  file_hashes: dict[str, str | None] | None = None

  @functools.cached_property
  def scale(self) -> int:
    """How many times larger than the model's the clips become."""
    if not self.config.upscaler:
      return 1
    return upscaler_config(self.config).condition.scale

  @property
  def material_size(self) -> Size:
    """Of the finished clips, or of those to enlarge."""
    size = material_size(self.config)
    return Size(size.t, size.h * self.scale, size.w * self.scale)


def read_job(argv: Sequence[str], description: str) -> tuple[Job, str]:
  """The job that a command line asks for, and the folder to write to.

  Args:
    argv: the arguments.
    description: of the program, for --help.

  Raises:
    UserError: whatever a user can get wrong, but for the material.
  """
  args, overrides = cli.parse(parser(description), argv)
  make = _from_sidecar if args.replay else job_from_flags
  job = make(args, overrides)
  job.xt_slice |= args.xt_slice
  job.names = args.names or ""
  _check_files(job, args.out)
  return job, args.out


def _check_files(job: Job, out: str) -> None:
  """Checks that the files that a job asks for can be made, and be there.

  Raises:
    UserError: they cannot.
  """
  if job.names not in ("", *NAMES):
    raise UserError(f"unknown --names={job.names!r}{nearest(job.names, NAMES)}")
  if (job.names or job.xt_slice) and not TASKS[job.task].clip:
    flag = f"--names={job.names}" if job.names else "--xt_slice"
    raise UserError(f"{flag} is of clips; --task={job.task} makes images")
  frames = job.config.data.num_frames
  if job.xt_slice and frames < SHORTEST:
    raise UserError(
      f"--xt_slice needs clips of {SHORTEST} frames or more; the model's have "
      f"{frames}"
    )
  if not job.names:
    return
  if job.style_sweep:
    raise UserError(
      "--names=vbench is of one clip a file; --style_sweep puts several there"
    )
  names = collections.Counter(map(vbench_name, job.requests))
  for name, count in names.items():
    media.check_free(Path(out) / job.names / name)
    if count > 1:
      raise UserError(f"--names=vbench: {count} clips would be named {name!r}")


def job_material(job: Job) -> Material:
  """Reads and checks the material, before anything slow is done.

  Raises:
    UserError: it is not there, damaged, or not what the task takes.
  """
  size = job.material_size
  fps = job.config.data.fps
  hashes = file_hashes(job.sources)
  expected = hashes if job.file_hashes is None else job.file_hashes
  for name in {**hashes, **expected}:
    # Of what cannot be read, reading it will tell.
    if hashes.get(name, "") not in (None, expected.get(name)):
      raise UserError(
        f"--{name}={job.sources.given().get(name)!r} is not what it was when "
        "the clip to replay was made"
      )
  job.file_hashes = hashes
  material, notes = read_material(job.task, job.sources, size, fps)
  try:
    prepare(job.task, material, size)
  except UserError as error:
    raise UserError(f"{_region_flag(job.sources)}{error}") from None
  for note in notes:
    print(f"note: {note}", file=sys.stderr)
  return material


def _region_flag(sources: Sources) -> str:
  """The flag that says what is given, before an error about that."""
  flags = [
    f"--{k}={v}: " for k in ("mask", "keep") if (v := getattr(sources, k))
  ]
  return "".join(flags)


def job_from_flags(args: argparse.Namespace, overrides: dict[str, str]) -> Job:
  """The job of parsed flags.

  Raises:
    UserError: as `read_job`.
  """
  prompts = read_prompts(args.prompt, args.prompts)
  task = next(iter(TASKS)) if args.task is None else args.task
  if task not in TASKS:
    raise UserError(f"unknown --task={task!r}{nearest(task, TASKS)}")
  sources = Sources(**{k: getattr(args, k) for k in _SOURCES})
  if TASKS[task].from_clip and sources.strength is None:
    sources = dataclasses.replace(sources, strength=STRENGTH)
  check_sources(task, sources)
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
  num_samples = 5 if args.names == "vbench" else 1  # As many as VBench reads.
  if args.num_samples is not None:
    num_samples = args.num_samples
  name = args.weights or file.get("weights", "")
  config = _config(name, file, flags | overrides, task)
  if args.style_alpha is not None and not config.style:
    raise UserError("--style_alpha needs --style")
  if args.style_sweep and args.style_alpha is not None:
    raise UserError("--style_sweep goes through all alphas: no --style_alpha")
  job = Job(
    config=config,
    requests=requests(prompts, num_samples),
    task=task,
    seed=cli.check_seed(args.seed or 0),
    negative_prompt=args.negative_prompt or "",
    raw=args.raw,
    sources=sources,
    style_sweep=args.style_sweep,
  )
  _check_sweep(job)
  return job


def _check_sweep(job: Job) -> None:
  if job.style_sweep and not job.config.style:
    raise UserError("--style_sweep needs --style")


def _config(
  name: str,
  file: Mapping[str, Any],
  overrides: Mapping[str, str],
  task: str,
) -> Config:
  """The configuration of the weights that do the task: named or conditional."""
  config = cli.resolve(weights_config(name, file), overrides)
  if TASKS[task].upscales and config.condition.kind != "low_res":
    own = {k: v for k, v in overrides.items() if not k.startswith("upscaler")}
    return cli.resolve(to_dict(upscaler_config(config)), own)
  if not TASKS[task].masked or config.condition.kind == "mask":
    return config
  return cli.resolve(to_dict(conditional_config(config, task)), overrides)


def _from_sidecar(args: argparse.Namespace, overrides: dict[str, str]) -> Job:
  """The job that a sidecar tells; it takes no other choices beside it."""
  given = [f"--config.{name}" for name in overrides] + [
    f"--{name}"
    for name, value in vars(args).items()
    if name not in (*_WITH_REPLAY, *FILES)
    and not (value is None or value is False or value == [])
  ]
  if given:
    raise UserError(
      f"--replay takes all from the sidecar; it does not go with {given[0]}"
    )
  saved = _read_sidecar(args.replay)
  job = Job(
    config=cli.resolve(saved["config"], {}),
    requests=[Request(check_prompt(saved["prompt"]), saved["sample_id"])],
    task=saved["task"],
    seed=cli.check_seed(saved["seed"]),
    negative_prompt=saved["negative_prompt"],
    raw=args.raw or saved["raw"],
    sources=saved_sources((saved["sources"] or {}) | _files(args, saved)),
    style_sweep=bool(saved["style_sweep"]),
    xt_slice=bool(saved["xt_slice"]),
    fingerprints={kind: saved[f"{kind}_fingerprint"] for kind in _WEIGHTS},
    file_hashes=saved["file_hashes"],
  )
  find_task(job.task)
  check_sources(job.task, job.sources)
  _check_sweep(job)
  if args.weights:
    job.config = dataclasses.replace(job.config, weights=args.weights)
  if args.text_encoder:
    text = dataclasses.replace(job.config.text, weights=args.text_encoder)
    job.config = dataclasses.replace(job.config, text=text)
  return job


def _read_sidecar(path: str) -> dict[str, Any]:
  """The fields of _SIDECAR; what is absent is None.

  Raises:
    UserError: there is no such file, or a field is of another type.
  """
  try:
    saved = json.loads(Path(path).read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise UserError(f"cannot replay {path!r}: {error}") from error
  if not isinstance(saved, dict):
    raise UserError(f"cannot replay {path!r}: it is no JSON object")
  fields = {name: saved.get(name) for name in _SIDECAR}
  for name, kinds in _SIDECAR.items():
    if type(fields[name]) not in kinds:  # A bool is no number here.
      raise UserError(
        f"cannot replay {path!r}: {name}={fields[name]!r} cannot be right"
      )
  if not 0 <= fields["sample_id"] < 2**32:
    raise UserError(f"cannot replay {path!r}: its sample_id is out of range")
  return fields


def _files(
  args: argparse.Namespace, saved: Mapping[str, Any]
) -> dict[str, str]:
  """Where the files of a sidecar lie now, if flags say so.

  Raises:
    UserError: the clip was made without such a file.
  """
  files = {k: v for k in FILES if (v := getattr(args, k)) is not None}
  for name, value in files.items():
    before = (saved["sources"] or {}).get(name)
    if before is None:
      raise UserError(f"--{name}: the clip to replay was made without")
    # Of files the content is compared, wherever they lie.
    if value != before and any(map(is_box, (value, before))):
      raise UserError(
        f"--{name}={value!r}: the clip to replay was made with {before!r}"
      )
  return files
