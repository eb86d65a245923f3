# SPDX-License-Identifier: Apache-2.0
"""Builds a dataset from a sprite pack.

python -m lumiere_jax.data.write --config=demo32 --sprites=PACK --data_dir=DIR
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from lumiere_jax import cli
from lumiere_jax.data import pack
from lumiere_jax.errors import UserError, nearest

DATASETS = ("emoji_motion",)
ATTRIBUTION = Path(__file__).parents[1] / "assets" / "ATTRIBUTION.md"


def build(config: str, sprites: str | Path, data_dir: str | Path) -> Path:
  """Builds emoji_motion as ArrayRecord files; returns the folder.

  Raises:
    UserError: unknown config, or no sprite pack.
  """
  import tensorflow_datasets as tfds

  from lumiere_jax.data.emoji_motion import EmojiMotion

  names = [known.name for known in EmojiMotion.BUILDER_CONFIGS]
  if config not in names:
    raise UserError(f"unknown --config={config}{nearest(config, names)}")
  pack.read_index(sprites)
  builder = EmojiMotion(
    config=config, data_dir=str(data_dir), file_format="array_record"
  )
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(manual_dir=str(sprites))
  )
  folder = Path(builder.data_dir)
  own = Path(sprites) / pack.ATTRIBUTION
  shutil.copy(own if own.is_file() else ATTRIBUTION, folder)
  return folder


def main(argv: Sequence[str]) -> None:
  """Builds what the flags ask for."""
  parser = cli.Parser(prog="lumiere_jax.data.write", description=__doc__)
  parser.add_argument("--dataset", default=DATASETS[0], choices=DATASETS)
  parser.add_argument("--config", default="demo32", help="its builder config")
  parser.add_argument("--sprites", required=True, help="folder of the pack")
  parser.add_argument(
    "--data_dir", default="data", help="folder the dataset is built below"
  )
  args = parser.parse_args(argv)
  print(f"built {build(args.config, args.sprites, args.data_dir)}")


if __name__ == "__main__":
  cli.run(main)
