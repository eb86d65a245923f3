# SPDX-License-Identifier: Apache-2.0
"""Lumiere in JAX: text to a whole 80-frame clip in one pass of a STUNet."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from lumiere_jax.api import Lumiere
  from lumiere_jax.conditioning.task import Material

__version__ = "0.1.0"
__all__ = ["Lumiere", "Material", "__version__"]


def __getattr__(name: str) -> Any:
  # JAX takes a second to import; `import lumiere_jax` alone must not.
  if name == "Lumiere":
    from lumiere_jax.api import Lumiere

    return Lumiere
  if name == "Material":
    from lumiere_jax.conditioning.task import Material

    return Material
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
