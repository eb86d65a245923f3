# SPDX-License-Identifier: Apache-2.0
"""Rules from a torch I3D to `features/i3d.py`.

The names are those of piergiaj's pytorch-i3d, the layout in which the converted
weights of Kinetics-400 are passed on: its own rgb_imagenet.pt, and the
i3d_pretrained_400.pt of the weights that FVD is measured with. A wrapper's name
may stand before them, as in TorchScript and of several GPUs.
"""

from collections.abc import Collection

from lumiere_jax.errors import UserError
from lumiere_jax.weights.rules import (
  CONV3D,
  POINTWISE3D,
  Ignore,
  Rule,
  Rules,
  batch_norm,
  prefix_of,
)

_UNIT = r"{unit:Conv3d_\w+}"
_BRANCH = r"{block:Mixed_\w+}.{branch:b\d[ab]?}"


def rules(keys: Collection[str]) -> Rules:
  """The rules for a file with these keys, or with any if there are none.

  Raises:
    UserError: they are of another layout.
  """
  inside = prefix_of(keys, "Conv3d_1a_7x7.") if keys else ""
  if inside is None:
    raise UserError(
      "no tensor of a layer Conv3d_1a_7x7; an I3D with the names of "
      "pytorch-i3d was expected, as rgb_imagenet.pt or i3d_pretrained_400.pt"
    )
  table: list[Rule | Ignore] = [
    Rule(f"{inside}logits.conv3d.weight", "logits/kernel", POINTWISE3D),
    Rule(f"{inside}logits.conv3d.bias", "logits/bias"),
  ]
  for name in (_UNIT, _BRANCH):
    theirs, ours = inside + name, name.replace(".{", "/{")
    ours = "/".join(part.partition(":")[0] + "}" for part in ours.split("/"))
    table.append(
      Rule(f"{theirs}.conv3d.weight", f"{ours}/conv_norm/conv/kernel", CONV3D)
    )
    table += batch_norm(f"{theirs}.bn", f"{ours}/conv_norm/norm")
  return table
