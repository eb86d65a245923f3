# SPDX-License-Identifier: Apache-2.0
"""What lies beside the file of a clip and tells of it."""

import json
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError


def read_caption(file: Path) -> str:
  """What a clip is to show: its sidecar's prompt, or the text file beside it.

  Returns:
    "" if there is neither.

  Raises:
    UserError: the sidecar or the text file cannot be read.
  """
  if isinstance(prompt := read_sidecar(file).get("prompt"), str):
    return prompt.strip()
  text = file.with_suffix(".txt")
  try:
    return " ".join(text.read_text(encoding="utf-8").split())
  except FileNotFoundError:
    return ""
  except (OSError, ValueError) as error:
    raise UserError(f"the caption of {file} cannot be read: {error}") from None


def read_sidecar(file: Path) -> dict[str, Any]:
  """What the JSON file beside a clip says; nothing if there is none.

  Raises:
    UserError: it cannot be read.
  """
  path = file.with_suffix(".json")
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError:
    return {}
  except (OSError, ValueError) as error:
    raise UserError(f"{path} beside a clip cannot be read: {error}") from None
  return found if isinstance(found, dict) else {}
