# SPDX-License-Identifier: Apache-2.0
"""The document of reuse across steps says what was measured."""

import json

from tests import scripts

script = scripts.load("docs/feature_reuse.py")
REPORT = json.loads(
  (scripts.ROOT / "docs" / "runs" / "feature_reuse.json").read_text(
    encoding="utf-8"
  )
)


def test_every_way_of_reuse_was_measured_with_every_sampler():
  for name in script.CONFIGS:
    assert list(REPORT[name]) == list(script.WAYS)
    for found in REPORT[name].values():
      assert len(found["seconds"]) == len(REPORT["prompts"])


def test_the_table_is_that_of_the_report():
  text = (scripts.ROOT / "docs" / "feature_reuse.md").read_text(
    encoding="utf-8"
  )
  assert script.table(REPORT) in text
