# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: one atomic thing that holds all that must agree.

Arrays, position in the data, state of the log, config and fingerprint of the
data are written together and restored together, or not at all.
"""

from lumiere_jax.checkpoint.checkpointer import Checkpointer, Keep, Stateful

__all__ = ["Checkpointer", "Keep", "Stateful"]
