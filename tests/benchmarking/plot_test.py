# SPDX-License-Identifier: Apache-2.0
"""The roofline can be read, however close its dots are."""

import itertools
import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
from matplotlib.text import Text

from lumiere_jax.benchmarking.plot import roofline_figure

RUNS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "runs"
USE = {
  "flops": 2e11,
  "flops_source": "measured",
  "named_bandwidth": None,
  "bandwidth": 3e10,
}


def close(shift):
  return {
    "config": "demo",
    "what": "forward",
    "utilization": USE,
    "blocks": [
      {
        "name": name,
        "seconds": 0.1 * (i + 1),
        "flops_per_byte": 20 * (1 + i * shift),
        "flops_per_second": 1e11 * (1 + i * shift),
      }
      for i, name in enumerate(
        ["down_0", "down_1", "down_2", "mid", "up_2", "up_1", "up_0"]
      )
    ],
  }


RESULTS = {
  "same": close(0.0),
  "near": close(0.01),
  **{
    path.stem: result
    for path in sorted(RUNS.glob("*.json"))
    if "blocks" in (result := json.loads(path.read_text(encoding="utf-8")))
  },
}


@pytest.mark.parametrize("name", RESULTS)
def test_no_label_overlaps_another_or_leaves_the_plot(name):
  figure = roofline_figure(RESULTS[name])
  figure.draw_without_rendering()
  (axes,) = figure.axes
  boxes = [Text.get_window_extent(label) for label in axes.texts]
  assert len(boxes) == len(RESULTS[name]["blocks"])
  assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
  for box in boxes:
    assert axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
    assert axes.bbox.containsy(box.y0) and axes.bbox.containsy(box.y1)
