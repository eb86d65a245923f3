# SPDX-License-Identifier: Apache-2.0
"""Times the forms of the temporal convolution on this machine.

python -m benchmarks.temporal_forms --out=benchmarks/results/forms_cpu.json

A form that is faster on a kind of device stands for it in
`lumiere_jax.nn.temporal.temporal_conv`.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.comparison import at_least
from lumiere_jax import cli
from lumiere_jax.benchmarking.clock import measure
from lumiere_jax.benchmarking.machine import environment
from lumiere_jax.compiling import compiler_options
from lumiere_jax.errors import UserError
from lumiere_jax.nn.temporal import folded_conv, shifted_matmuls

DTYPES = ("float32", "bfloat16", "float16")
FORMS = {"shifted_matmuls": shifted_matmuls, "folded_conv": folded_conv}
# Frames, height and width, channels: of small networks and of if_m's levels.
SIZES = {
  "cpu": ((80, 32, 32), (80, 16, 48), (40, 16, 64), (40, 8, 96), (20, 8, 128)),
}
LARGE = ((80, 64, 192), (40, 32, 384), (20, 16, 576), (80, 128, 128))


def main(argv: Sequence[str]) -> None:
  parser = cli.Parser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--out", type=Path, required=True)
  parser.add_argument("--repeats", type=at_least(1), default=15)
  parser.add_argument("--dtype", choices=DTYPES, default="float32")
  args = parser.parse_args(argv)
  if not args.out.parent.is_dir():
    raise UserError(f"--out={args.out}: there is no folder {args.out.parent}")
  sizes = SIZES.get(jax.default_backend(), LARGE)
  rows = [
    row(size, stride, args.dtype, args.repeats)
    for size in sizes
    for stride in (1, 2)
  ]
  result = {
    "environment": environment(),
    "dtype": args.dtype,
    "repeats": args.repeats,
    "rows": rows,
  }
  args.out.write_text(json.dumps(result, indent=2) + "\n")


def row(
  size: tuple[int, int, int], stride: int, dtype: str, repeats: int
) -> dict[str, object]:
  """Milliseconds of each form: forward, and forward with both gradients."""
  frames, pixels, channels = size
  x = jax.random.normal(
    jax.random.key(0), (1, frames + 2, pixels, pixels, channels), dtype
  )
  kernel = jax.random.normal(jax.random.key(1), (3, channels, channels), dtype)
  found: dict[str, object] = {
    "frames": frames,
    "pixels": pixels,
    "channels": channels,
    "stride": stride,
  }
  for name, form in FORMS.items():

    def forward(x, kernel, form=form):
      # A layer stands between others, which XLA may join it with.
      return jnp.tanh(form(jax.nn.silu(x), kernel, stride))

    def loss(x, kernel, forward=forward):
      return (forward(x, kernel) ** 2).sum()

    for what, program in (
      ("forward", forward),
      ("gradients", jax.grad(loss, argnums=(0, 1))),
    ):
      run = jax.jit(program, compiler_options=compiler_options())
      timing = measure(lambda r=run: r(x, kernel), repeats)
      found[f"{name}_{what}_ms"] = 1e3 * timing.median
  print(found, flush=True)
  return found


if __name__ == "__main__":
  cli.run(main)
