# SPDX-License-Identifier: Apache-2.0
"""Where arrays lie: the mesh, the batch, and parameters by path rules.

Models know nothing of this. A rule is (regex on the leaf's path, spec); the
first match wins, so other parallelism is other rules, not other code.
"""

from lumiere_jax.sharding.batch import (
  abstract_examples,
  batch_sharding,
  batch_shares,
  check_batch_size,
  local_rows,
  place_batch,
  place_examples,
)
from lumiere_jax.sharding.mesh import (
  BATCH,
  FRAMES,
  make_mesh,
  mesh_of,
  replicated,
  resolved,
)
from lumiere_jax.sharding.rules import (
  REPLICATE,
  RULES,
  STATE_RULES,
  Rules,
  abstract_tree,
  gathered,
  on_host,
  place_tree,
  shard_tree,
  specs,
)

__all__ = [
  "BATCH",
  "FRAMES",
  "REPLICATE",
  "RULES",
  "STATE_RULES",
  "Rules",
  "abstract_examples",
  "abstract_tree",
  "batch_sharding",
  "batch_shares",
  "check_batch_size",
  "gathered",
  "local_rows",
  "make_mesh",
  "mesh_of",
  "on_host",
  "place_batch",
  "place_examples",
  "place_tree",
  "replicated",
  "resolved",
  "shard_tree",
  "specs",
]
