# SPDX-License-Identifier: Apache-2.0
"""Rules from a torch TransNetV2 to `features/transnet.py`.

The names are those of the network's own port to PyTorch.
"""

from collections.abc import Collection

from lumiere_jax.weights.rules import CONV3D, Ignore, Rule, Rules, batch_norm

_LAYERS = {"0": "space", "1": "time"}


def rules(keys: Collection[str]) -> Rules:
  """The rules for any of its files; they do not depend on the `keys`."""
  del keys
  block, ours = "SDDCNN.{i}.DDCNN.{j}", "block_{i}_{j}"
  table: list[Rule | Ignore] = [
    Rule(
      f"{block}.Conv3D_{{d}}.layers.{number}.weight",
      f"{ours}/{name}_{{d}}/kernel",
      CONV3D,
    )
    for number, name in _LAYERS.items()
  ]
  return [
    *table,
    *batch_norm(f"{block}.bn", f"{ours}/norm"),
    Ignore(
      "{part:frame_sim_layer|color_hist_layer|fc1|cls_layer[12]}.{leaf:.+}",
      "we use the convolutions' features",
    ),
  ]
