# SPDX-License-Identifier: Apache-2.0
"""The prompts of one request, and names for what comes out of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lumiere_jax.errors import UserError

_STEM_LENGTH = 48
# What no file name can hold, and the most bytes that one can have.
_NOT_IN_NAMES = {"/": "a slash", "\0": "a zero byte"}
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Request:
  """One clip or image to make.

  Attributes:
    prompt: what it shows.
    sample_id: its number among the samples of this prompt; with the seed it
      fixes the noise, whatever else is made beside it.
  """

  prompt: str
  sample_id: int


# Sets of prompts that are shipped, by name.
SETS = Path(__file__).resolve().parent.parent / "assets" / "prompts"


def read_prompts(prompts: Sequence[str], file: str | None) -> list[str]:
  """Prompts given one by one, then those of a text file, one a line.

  Args:
    prompts: one by one.
    file: a file, or the name of a shipped set: "demo", "general".

  Raises:
    UserError: none at all, an empty one, or an unreadable file.
  """
  result = list(prompts)
  if file:
    path = Path(file)
    shipped = SETS / f"{file}.txt"
    if not path.exists() and path.name == file and shipped.is_file():
      path = shipped
    try:
      lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
      raise UserError(f"cannot read prompts file {file!r}: {error}") from error
    result += [line for line in lines if line.strip()]
    if not result:
      raise UserError(f"prompts file {file!r} has no prompt in it")
  if not result:
    raise UserError("no prompt; give --prompt=TEXT or --prompts=FILE")
  return [check_prompt(p) for p in result]


def check_prompt(prompt: str) -> str:
  """Returns the prompt without space around it.

  Raises:
    UserError: it is empty.
  """
  if not prompt.strip():
    raise UserError(f"the prompt {prompt!r} is empty; describe a clip")
  return prompt.strip()


def requests(prompts: Sequence[str], num_samples: int) -> list[Request]:
  """Every sample of every prompt, samples of a prompt side by side.

  Raises:
    UserError: fewer than one sample.
  """
  if num_samples < 1:
    raise UserError(f"num_samples={num_samples} must be at least 1")
  return [Request(p, i) for p in prompts for i in range(num_samples)]


def file_stem(request: Request) -> str:
  """A file name that tells the prompt: lower-case words joined by dashes."""
  words = re.sub(r"[^\w]+", "-", request.prompt.lower()).strip("-")
  return f"{words[:_STEM_LENGTH].rstrip('-') or 'clip'}-{request.sample_id}"


def vbench_name(request: Request) -> str:
  """The name that VBench looks for a clip by: PROMPT-NUMBER.mp4.

  VBench (arXiv 2311.17982; prompts/README.md of its repository) takes the
  prompt letter for letter, and the samples 0 to 4 of each.

  Raises:
    UserError: no file can have such a name.
  """
  name = f"{request.prompt}-{request.sample_id}.mp4"
  for character, what in _NOT_IN_NAMES.items():
    if character in name:
      raise UserError(
        f"--names=vbench: the prompt {request.prompt!r} holds {what}, which no "
        "file name can"
      )
  if (size := len(name.encode("utf-8", "surrogatepass"))) > _LONGEST_NAME:
    raise UserError(
      f"--names=vbench: the prompt {request.prompt[:40]!r}... makes a name of "
      f"{size} bytes; a file can have {_LONGEST_NAME}"
    )
  return name
