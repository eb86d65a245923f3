# SPDX-License-Identifier: Apache-2.0
"""Whether there is something to draw with."""

from lumiere_jax.errors import UserError


def check_matplotlib() -> None:
  """Raises UserError if there is nothing to draw with."""
  try:
    import matplotlib  # noqa: F401
  except ImportError as error:
    raise UserError(
      "--plot needs matplotlib: pip install 'lumiere_jax[eval]'"
    ) from error
