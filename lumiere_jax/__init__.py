# SPDX-License-Identifier: Apache-2.0
"""Lumiere in JAX: text to a whole 80-frame clip in one pass of a STUNet."""

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from lumiere_jax.api import Lumiere
  from lumiere_jax.conditioning.task import Material

__version__ = "0.1.0"
__all__ = ["Lumiere", "Material", "__version__"]

# Under `python -m lumiere_jax.PROGRAM`, Ctrl-C ends the process at once while
# the program still imports; `cli.run` then listens for it.
if (
  sys.argv[:1] == ["-m"]
  and any(f"{__name__}." in argument for argument in sys.orig_argv)
  and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
  signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> Any:
  # JAX takes a second to import; `import lumiere_jax` alone must not.
  if name == "Lumiere":
    from lumiere_jax.api import Lumiere

    return Lumiere
  if name == "Material":
    from lumiere_jax.conditioning.task import Material

    return Material
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
