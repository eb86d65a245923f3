# SPDX-License-Identifier: Apache-2.0
"""Apache Beam, if it is there, and less talkative."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from lumiere_jax.errors import UserError


def import_beam() -> Any:
  """Apache Beam, imported when it is needed.

  Raises:
    UserError: it is not installed.
  """
  try:
    with silence():  # It tells of Google libraries that it does not find.
      import apache_beam
  except ImportError as error:
    raise UserError(
      "this needs Apache Beam: pip install 'lumiere_jax[data]'"
    ) from error
  return apache_beam


@contextlib.contextmanager
def silence() -> Iterator[None]:
  """Drops what is logged below an error."""
  before = logging.root.manager.disable
  logging.disable(logging.WARNING)
  try:
    yield
  finally:
    logging.disable(before)
