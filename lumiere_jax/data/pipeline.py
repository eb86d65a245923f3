# SPDX-License-Identifier: Apache-2.0
"""x"""

from typing import Any


def import_beam() -> Any:
  """Apache Beam."""
  import apache_beam

  return apache_beam
