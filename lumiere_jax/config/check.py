# SPDX-License-Identifier: Apache-2.0
"""Checks that raise one clear line."""

import re

from lumiere_jax.errors import UserError, nearest


def check(condition: bool, message: str) -> None:
  """Raises UserError with `message` unless the condition holds."""
  if not condition:
    raise UserError(message)


def choice(value: str, choices: tuple[str, ...], name: str) -> None:
  """Raises UserError unless the value of field `name` is one of the choices."""
  if value not in choices:
    raise UserError(f"unknown {name}={value!r}{nearest(value, choices)}")


def check_regex(value: str, name: str) -> None:
  """Raises UserError unless the value of field `name` can be searched for."""
  try:
    re.compile(value)
  except re.error as error:
    raise UserError(
      f"{name}={value!r} is no regular expression: {error}"
    ) from error
