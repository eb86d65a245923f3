# SPDX-License-Identifier: Apache-2.0
"""Lists the objects of the demo's world: python -m lumiere_jax.objects

One object a line: its main name, then the other names that captions use.
"""

from collections.abc import Sequence

from lumiere_jax import cli
from lumiere_jax.data.objects import OBJECTS, RESERVED


def main(argv: Sequence[str]) -> None:
  """The program, given its arguments."""
  parser = cli.Parser(prog="lumiere_jax.objects", description=__doc__)
  parser.add_argument(
    "--reserved",
    action="store_true",
    help="those that no model was trained on, kept for fine-tuning",
  )
  args = parser.parse_args(argv)
  for names in (RESERVED if args.reserved else OBJECTS).values():
    print(", ".join(names))


if __name__ == "__main__":
  cli.run(main)
