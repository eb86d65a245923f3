# SPDX-License-Identifier: Apache-2.0
"""Rules from a torch EfficientNet-Lite0 to `features/efficientnet.py`.

The names are those of lukemelas' EfficientNet-PyTorch, in which the Lite
networks' weights, ported from TensorFlow's, are found.
"""

from collections.abc import Collection

from lumiere_jax.weights.rules import CONV2D, Ignore, Rule, Rules, batch_norm

# A convolution and the norm behind it; ours.
_LAYERS = {
  ("_conv_stem", "_bn0"): "stem",
  ("_blocks.{i}._expand_conv", "_blocks.{i}._bn0"): "block_{i}/expand",
  ("_blocks.{i}._depthwise_conv", "_blocks.{i}._bn1"): "block_{i}/depthwise",
  ("_blocks.{i}._project_conv", "_blocks.{i}._bn2"): "block_{i}/project",
  ("_conv_head", "_bn1"): "head",
}


def rules(keys: Collection[str]) -> Rules:
  """The rules for any of its files; they do not depend on the `keys`."""
  del keys
  table: list[Rule | Ignore] = []
  for (conv, norm), ours in _LAYERS.items():
    table.append(Rule(f"{conv}.weight", f"{ours}/conv/kernel", CONV2D))
    table += batch_norm(norm, f"{ours}/norm")
  table.append(Ignore("_fc.{leaf:weight|bias}", "we use features"))
  return table
