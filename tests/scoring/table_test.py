# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest

from lumiere_jax.scoring.enough import lacking
from lumiere_jax.scoring.table import Source, frechet_rows, rows_beside

SOURCE = Source(
  title="Toy",
  frames=16,
  fps=16.0,
  stride=1,
  clip_rule="the first",
  reference="none",
  seed=0,
)


@pytest.mark.parametrize("allow_small", [False, True])
@pytest.mark.parametrize(
  ("real", "made", "dimensions"),
  [
    (30, 20, 10),
    (50, 20, 10),
    (50, 19, 10),
    (200, 128, 70),
    (256, 128, 70),
    (260, 127, 70),
    (290, 140, 70),
  ],
)
def test_what_is_left_out_is_told(real, made, dimensions, allow_small):
  """What is said to lack is what is not there, and no more."""
  rng = np.random.default_rng(0)
  sets = [rng.normal(size=(count, dimensions)) for count in (real, made)]
  scored = functools.partial(
    frechet_rows, SOURCE, allow_small=allow_small, rounds=20
  )
  rows = rows_beside(scored, *sets, {})
  missing = lacking("Toy-FD", real, made, dimensions, allow_small=allow_small)
  wanted = ["Toy-FD", "Toy-FD64"] if dimensions > 64 else ["Toy-FD"]
  for name in wanted:
    for of, key in (("generated", name), ("real", f"{name} of halves")):
      there = name in [row["card"]["score"] for row in rows[of]]
      assert there == (key not in missing), (name, of)
  assert set(missing) <= {
    f"{n}{of}" for n in wanted for of in ("", " of halves")
  }
  assert not (allow_small and missing)
  if (real, dimensions, allow_small) == (30, 10, False):
    assert missing == {
      "Toy-FD of halves": "15 clips of each kind are fewer than 20, 2 for each "
      "of 10 dimensions (--allow_small)"
    }
