# SPDX-License-Identifier: Apache-2.0
"""Checks that raise one clear line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lumiere_jax.errors import UserError, nearest


def check(condition: bool, message: str) -> None:
  """Raises UserError with `message` unless the condition holds."""
  if not condition:
    raise UserError(message)


@contextmanager
def told_as(name: str, group: str) -> Iterator[None]:
  """Failed checks of the fields of `name` are told as those of `group`."""
  try:
    yield
  except UserError as error:
    message = re.sub(rf"(?<![\w.]){name}\.", f"{group}.", str(error))
    raise UserError(message) from error


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
