# SPDX-License-Identifier: Apache-2.0
"""The prompts of one request, and names for what comes out of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lumiere_jax.errors import UserError

_STEM_LENGTH = 48


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


def read_prompts(prompts: Sequence[str], file: str | None) -> list[str]:
  """Prompts given one by one, then those of a text file, one a line.

  Raises:
    UserError: none at all, an empty one, or an unreadable file.
  """
  result = list(prompts)
  if file:
    try:
      lines = Path(file).read_text(encoding="utf-8").splitlines()
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
