# SPDX-License-Identifier: Apache-2.0
"""Puts the clips of a folder that `sample --raw` wrote on one sheet.

python docs/contact_sheets.py --out=docs/twenty.png out
"""

import argparse
import json
from pathlib import Path

import numpy as np

from lumiere_jax import media


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folder", help="what sample --out was")
  parser.add_argument("--out", required=True)
  parser.add_argument("--scale", type=int, default=2)
  args = parser.parse_args()
  clips = {}
  for sidecar in sorted(Path(args.folder).glob("*.json")):
    prompt = json.loads(sidecar.read_text())["prompt"]
    clips[prompt] = np.load(sidecar.with_suffix(".npy"))
  sheet = media.contact_sheet_many(clips, columns=10, scale=args.scale)
  Path(args.out).unlink(missing_ok=True)
  media.write_png(args.out, sheet)


if __name__ == "__main__":
  main()
