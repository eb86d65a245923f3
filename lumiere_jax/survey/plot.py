# SPDX-License-Identifier: Apache-2.0
"""Bars of preference, as the paper's Fig. 10."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def draw_preferences(result: Mapping[str, Any], path: Path) -> None:
  """A bar for each question: the first method's share, then the other's.

  Args:
    result: of `study analyse`.
    path: of a PNG.
  """
  from matplotlib.figure import Figure

  questions = result["questions"]
  figure = Figure(
    figsize=(7, 1.2 + 0.7 * len(questions)), dpi=100, layout="constrained"
  )
  axes = figure.subplots()
  first, second = result["methods"]
  for place, found in enumerate(questions.values()):
    share = 100 * found["share"]
    axes.barh(place, share, color="#2a6fb0", label=first if not place else None)
    axes.barh(
      place,
      100 - share,
      left=share,
      color="#c9c9c9",
      label=second if not place else None,
    )
    low, high = 100 * found["low"], 100 * found["high"]
    axes.errorbar(
      share,
      place,
      xerr=[[share - low], [high - share]],
      color="black",
      capsize=3,
    )
    axes.text(2, place, f"{share:.0f}%", va="center", color="white")
  axes.axvline(50, color="black", linestyle=":")
  axes.set_yticks(range(len(questions)), list(questions))
  axes.invert_yaxis()
  axes.set_xlim(0, 100)
  axes.set_xlabel("preferred, in percent, with the 95% interval")
  figure.legend(loc="outside upper center", ncols=2)
  figure.savefig(path, format="png")
