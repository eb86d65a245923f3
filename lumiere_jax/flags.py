# SPDX-License-Identifier: Apache-2.0
"""The flags of `sample`."""

import argparse

from lumiere_jax import cli
from lumiere_jax.conditioning.task import TASKS


def parser(description: str) -> argparse.ArgumentParser:
  """Reads them; their meanings are in its --help."""
  flags = cli.Parser(prog="lumiere_jax.sample", description=description)
  add = flags.add_argument
  add("--config", help="a configs/*.py file")
  add("--weights", help="weights folder, or the name of shipped ones")
  add("--text_encoder", help="weights folder of the text encoder")
  add("--prompt", action="append", default=[], help="may be repeated")
  add(
    "--prompts",
    help="text file, a prompt on each line; or a shipped set: demo, general",
  )
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
    type=cli.number,
    help="0 keeps the video, 1 nothing of it; 0.6 if not given",
  )
  add("--style", help="shipped style, or weights folder, to draw towards")
  add(
    "--style_alpha", type=cli.number, help="how far, 0 to 1; 0.7 if not given"
  )
  add("--style_sweep", action="store_true", help="several alphas side by side")
  add(
    "--fit",
    help="crop (if not given), pad or stretch what is of another shape; "
    "outpaint makes what pad adds",
  )
  add("--out", default="out", help="folder to write to")
  add("--seed", type=int, help="0 if not given")
  add(
    "--num_samples",
    type=int,
    help="of each prompt; 1 if not given, 5 with --names=vbench",
  )
  add("--guidance", type=cli.number, help="scale; 1 is none")
  add("--steps", type=int, help="denoising steps")
  add("--sampler", help="ddpm, ddim or dpmpp_2m")
  add("--raw", action="store_true", help="write the uint8 clip as .npy too")
  add(
    "--xt_slice",
    action="store_true",
    help="write a picture of the middle row over time too, and tell in the "
    "sidecar how periodic the clip is",
  )
  add(
    "--names",
    help="vbench: OUT/vbench gets the MP4s and nothing else, at the clips' own "
    "size, under the names that VBench looks for",
  )
  add(
    "--replay",
    help="JSON sidecar of a clip to make again; its files may be given anew",
  )
  return flags
