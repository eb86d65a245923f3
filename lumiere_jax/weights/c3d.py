# SPDX-License-Identifier: Apache-2.0
"""Rules from a torch C3D to `features/c3d.py`.

Of two layouts: that of the common port from Caffe, conv1 to conv5b and fc6 to
fc8 (as DavideA's c3d.pickle of Sports-1M), and that of MMAction2, whose
c3d_sports1m-pretrained_..._ucf101 was trained on UCF101.
"""

from collections.abc import Collection, Mapping
from typing import Any

from lumiere_jax.errors import UserError
from lumiere_jax.weights.rules import CONV3D, LINEAR, Rule, Rules, prefix_of


def rules(keys: Collection[str]) -> Rules:
  """The rules for a file with these keys, or the port's if there are none.

  Raises:
    UserError: they are of another layout.
  """
  conv, dense = r"{layer:conv\d[ab]?}", r"{layer:fc\d}"
  layout, inside = _layout(keys) if keys else ("caffe", "")
  if layout == "caffe":
    return [
      *_both(f"{inside}{conv}", "{layer}", CONV3D),
      *_both(f"{inside}{dense}", "{layer}", LINEAR),
    ]
  return [
    # Layers that are alone in their blocks have a letter, too.
    *_both(f"{inside}conv{{n:[12]}}a.conv", "conv{n}", CONV3D),
    *_both(f"{inside}{{layer:conv[345][ab]}}.conv", "{layer}", CONV3D),
    *_both(f"{inside}{dense}", "{layer}", LINEAR),
    *_both(_head(inside), "fc8", LINEAR),
  ]


def config(tensors: Mapping[str, Any]) -> dict[str, Any]:
  """What a file tells of the network: its classes, and what frames it wants.

  Caffe's was trained on frames as OpenCV reads them, less the mean of their
  channels; MMAction2's on such as its configuration tells.

  Raises:
    UserError: it is of another layout.
  """
  layout, inside = _layout(tensors)
  if layout == "caffe":
    last, mean, order = f"{inside}fc8.weight", [90.0, 98.0, 102.0], "bgr"
  else:
    last, mean = f"{_head(inside)}.weight", [104.0, 117.0, 128.0]
    order = "rgb"
  if last not in tensors:
    raise UserError(f"no {last}, the layer that tells classes")
  return {"classes": tensors[last].shape[0], "mean": mean, "order": order}


def _layout(keys: Collection[str]) -> tuple[str, str]:
  """The layout of a file, and what stands before the names of its layers."""
  for layout, layer in (("caffe", "conv3a"), ("mmaction", "conv3a.conv")):
    if (inside := prefix_of(keys, f"{layer}.weight")) is not None:
      return layout, inside
  raise UserError(
    "no tensor conv3a.weight; a C3D with layers conv1 to fc8, or MMAction2's, "
    "was expected"
  )


def _head(inside: str) -> str:
  """MMAction2's last layer, which stands beside the backbone."""
  return inside.removesuffix("backbone.") + "cls_head.fc_cls"


def _both(theirs: str, ours: str, transform: Any) -> list[Rule]:
  return [
    Rule(f"{theirs}.weight", f"{ours}/kernel", transform),
    Rule(f"{theirs}.bias", f"{ours}/bias"),
  ]
