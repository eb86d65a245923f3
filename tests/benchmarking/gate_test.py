# SPDX-License-Identifier: Apache-2.0
"""The regression gate: no program computes or is given more than it did.

The recorded counts are of this repository's lowered programs, for each minor
version of JAX. Where a change is meant, remove the file and record it anew:

  python -m lumiere_jax.benchmark --config=configs/if_m.py --what=train \
    --count_only --out=benchmarks/counts/jax-0.10/if_m-train.json
"""

import json
from pathlib import Path

import jax
import pytest

from lumiere_jax import benchmark

ROOT = Path(__file__).parent.parent.parent
MINOR = ".".join(jax.__version__.split(".")[:2])
COUNTS = ROOT / "benchmarks" / "counts" / f"jax-{MINOR}"
full = pytest.mark.full


@pytest.mark.parametrize(
  ("config", "what"),
  [
    ("demo", "sample"),
    ("demo_t2v", "train"),
    pytest.param("if_m", "sample", marks=full),
    pytest.param("if_m", "train", marks=full),
  ],
)
def test_no_program_has_grown(config, what, tmp_path, capsys):
  recorded = COUNTS / f"{config}-{what}.json"
  if not COUNTS.exists():
    pytest.skip(f"there are no counts of jax {MINOR}")
  out = tmp_path / "now.json"
  benchmark.main(
    [
      f"--config={ROOT / 'configs' / config}.py",
      f"--what={what}",
      "--count_only",
      f"--out={out}",
    ]
  )
  benchmark.main([f"--compare={recorded},{out}"])
  table = capsys.readouterr().out
  assert table.count("counts.") == 5 and "not judged" not in table
  # The gate closes: one operation in a hundred more would be seen.
  result = json.loads(out.read_text())
  result["counts"]["flops_lowered"] *= 1.01
  out.write_text(json.dumps(result))
  with pytest.raises(SystemExit):
    benchmark.main([f"--compare={recorded},{out}"])
