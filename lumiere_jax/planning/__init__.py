# SPDX-License-Identifier: Apache-2.0
"""What training or sampling would take of devices that need not be there.

`task` says what runs, `account` counts it by hand, `plan` compiles it and puts
both together, `advice` looks for what makes it fit, `report` writes it down.
"""

from lumiere_jax.planning.advice import Advice, find_fit
from lumiere_jax.planning.plan import Plan, make_plan
from lumiere_jax.planning.report import as_dict, as_text
from lumiere_jax.planning.task import WHATS, Task

__all__ = [
  "WHATS",
  "Advice",
  "Plan",
  "Task",
  "as_dict",
  "as_text",
  "find_fit",
  "make_plan",
]
