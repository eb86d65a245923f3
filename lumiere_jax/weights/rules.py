# SPDX-License-Identifier: Apache-2.0
"""The import engine: a table of rules fills a tree from foreign tensors.

A rule is a pair of templates and a transform,

    Rule("layer.{i}.{p:query|key}.weight", "layer_{i}/{p}/kernel", LINEAR)

in which `{name:regex}` is a field (a number where no regex is given) that both
sides share. So a table can be read backwards, for export.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from lumiere_jax import trees
from lumiere_jax.errors import UserError
from lumiere_jax.shapes import PyTree
from lumiere_jax.weights.lazy import LazyTensor

_FIELD = re.compile(r"\{(\w+)(?::([^{}]+))?\}")
_NUMBER = r"\d+"


@dataclass(frozen=True, kw_only=True)
class Transform:
  """A reversible change of layout; both ways keep every value's bits."""

  name: str
  forward: Callable[[np.ndarray], np.ndarray]
  backward: Callable[[np.ndarray], np.ndarray]

  def inverse(self) -> "Transform":
    return Transform(
      name=f"inverse {self.name}", forward=self.backward, backward=self.forward
    )


def _permuted(name: str, *axes: int) -> Transform:
  back = tuple(int(axis) for axis in np.argsort(axes))
  return Transform(
    name=name,
    forward=lambda x: np.transpose(x, axes),
    backward=lambda x: np.transpose(x, back),
  )


IDENTITY = Transform(name="identity", forward=lambda x: x, backward=lambda x: x)
LINEAR = _permuted("linear", 1, 0)  # (out, in) to (in, out)
CONV2D = _permuted("conv2d", 2, 3, 1, 0)  # (out, in, h, w) to (h, w, in, out)
CONV3D = _permuted("conv3d", 2, 3, 4, 1, 0)  # (out, in, t, h, w), likewise
POINTWISE3D = Transform(  # (out, in, 1, 1, 1) to (in, out)
  name="pointwise",
  forward=lambda x: x.squeeze((2, 3, 4)).T,
  backward=lambda x: x.T[:, :, None, None, None],
)
ROW = Transform(  # (1, d) to (d,)
  name="row", forward=lambda x: x.squeeze(0), backward=lambda x: x[None]
)


@dataclass(frozen=True)
class Rule:
  """Sends a source key to a target path; both are templates.

  Attributes:
    source: template of the foreign keys.
    target: template of our paths, with the same fields.
    transform: from the foreign layout to ours.
  """

  source: str
  target: str
  transform: Transform = IDENTITY

  def __post_init__(self):
    names = [
      {f[0] for f in _FIELD.findall(t)} for t in (self.source, self.target)
    ]
    if names[0] != names[1]:
      raise ValueError(f"{self.source!r} and {self.target!r} differ in fields")

  def path(self, key: str) -> str | None:
    """Returns the target path of a key, or None if the rule does not match."""
    match = _pattern(self.source).fullmatch(key)
    return match and _FIELD.sub(lambda field: match[field[1]], self.target)

  def inverse(self) -> "Rule":
    """Returns the rule that sends the target path to the source key."""
    regexes = dict(_FIELD.findall(self.source))
    source = _FIELD.sub(
      lambda f: f"{{{f[1]}:{regexes[f[1]] or _NUMBER}}}", self.target
    )
    return Rule(source, self.source, self.transform.inverse())


@dataclass(frozen=True)
class Ignore:
  """Leaves out source keys, for a reason; the key is a template."""

  source: str
  reason: str

  def path(self, key: str) -> str | None:
    """Returns "" if the key is to be left out, else None."""
    return "" if _pattern(self.source).fullmatch(key) else None


Rules = Sequence[Rule | Ignore]


def prefix_of(keys: Collection[str], part: str) -> str | None:
  """What stands before a part of keys, as the "module." of a wrapper.

  Args:
    keys: of a file.
    part: with which keys begin, or go on after a point.

  Returns:
    What stands before the first that has it, "" where nothing does; None if
    there is none.
  """
  for key in keys:
    before, found, _ = f".{key}".partition(f".{part}")
    if found:
      return before[1:] + "." * (before != "")
  return None


def norm(theirs: str, ours: str) -> list[Rule | Ignore]:
  """Of a torch norm, templates of whose names are given, to a Flax one."""
  return [
    Rule(f"{theirs}.weight", f"{ours}/scale"),
    Rule(f"{theirs}.bias", f"{ours}/bias"),
  ]


def batch_norm(theirs: str, ours: str) -> list[Rule | Ignore]:
  """Of a torch batch norm to `features.norm.FixedNorm`."""
  return [
    *norm(theirs, ours),
    Rule(f"{theirs}.running_mean", f"{ours}/mean"),
    Rule(f"{theirs}.running_var", f"{ours}/var"),
    Ignore(f"{theirs}.num_batches_tracked", "it matters in training only"),
  ]


def apply_rules(
  source: Mapping[str, Any], rules: Rules, target: PyTree
) -> PyTree:
  """Returns the target's tree, filled with every tensor of the source.

  Args:
    source: foreign tensors (anything with a shape that `np.asarray` reads).
    rules: each source key must match exactly one.
    target: abstract tree, as `jax.eval_shape` of an initialiser gives it.

  Returns:
    NumPy arrays of the target's shapes and types.

  Raises:
    UserError: as in `plan`.
  """
  leaves = plan(source, rules, target)
  return trees.unflatten({p: np.asarray(v) for p, v in leaves.items()})


def plan(
  source: Mapping[str, Any],
  rules: Rules,
  target: PyTree,
  *,
  keep_types: bool = False,
) -> dict[str, LazyTensor]:
  """Returns the target's leaves by path, none of them read yet.

  What is too big for memory goes from `lazy.open_safetensors` through here to
  `folder.save` one tensor at a time.

  Args:
    source: foreign tensors, as in `apply_rules`.
    rules: each source key must match exactly one.
    target: abstract tree.
    keep_types: leaves have the source's types rather than the target's.

  Raises:
    UserError: no rule matches any source key; or listing every source key that
      no rule or more than one matches, every target that no source or more than
      one fills, every path that the target has not, every shape that differs.
  """
  if not any(rule.path(key) for key in source for rule in rules):
    first = next(iter(source), None)
    found = f", as {first!r}," if source else ""
    raise UserError(
      f"none of its {len(source)} tensors{found} is one of the model's"
    )
  wanted = trees.flatten(target)
  problems: Problems = defaultdict(list)
  origins = _match(source, rules, wanted, problems)
  leaves = {}
  for path, leaf in wanted.items():
    if len(origins[path]) != 1:
      title = "filled more than once" if origins[path] else "not filled"
      keys = [key for key, _ in origins[path]]
      problems[title].append(" <- ".join([path, *keys]))
      continue
    key, transform = origins[path][0]
    tensor = source[key]
    if _shape_after(transform, tensor.shape) != tuple(leaf.shape):
      problems["wrong shape"].append(
        f"{path} {tuple(leaf.shape)} <- {key} {tuple(tensor.shape)}"
        f" ({transform.name})"
      )
    dtype = np.dtype((tensor if keep_types else leaf).dtype)
    leaves[path] = LazyTensor(
      shape=tuple(leaf.shape),
      dtype=dtype,
      read=functools.partial(_read, source, key, transform, dtype),
    )
  if problems:
    raise UserError(_report(problems))
  return leaves


def plan_export(
  source: Mapping[str, Any], rules: Rules
) -> dict[str, LazyTensor]:
  """Returns the foreign tensors by key, none of them read yet.

  Args:
    source: our leaves by path.
    rules: the table of the import.

  Raises:
    UserError: a leaf that no rule or more than one leads to.
  """
  back = invert(rules)
  target = {}
  for path, leaf in source.items():
    for rule in back:
      if key := rule.path(path):
        shape = _shape_after(rule.transform, leaf.shape) or ()
        target[key] = jax.ShapeDtypeStruct(shape, leaf.dtype)
  return plan(source, back, target, keep_types=True)


def invert(rules: Rules) -> list[Rule]:
  """Returns the table that leads back; what was left out stays left out."""
  return [rule.inverse() for rule in rules if isinstance(rule, Rule)]


def describe(source: Mapping[str, Any], rules: Rules) -> list[str]:
  """Returns a line for each source key: where it goes, and how."""
  lines = []
  for key, tensor in sorted(source.items()):
    for rule in rules:
      path = rule.path(key)
      if path is None:
        continue
      if isinstance(rule, Ignore):
        lines.append(f"{key} {tuple(tensor.shape)} left out: {rule.reason}")
      else:
        shape = _shape_after(rule.transform, tensor.shape)
        how = rule.transform.name
        lines.append(f"{key} {tuple(tensor.shape)} -> {path} {shape} {how}")
  return lines


Problems = dict[str, list[str]]


def _match(
  source: Mapping[str, Any],
  rules: Rules,
  wanted: Mapping[str, Any],
  problems: Problems,
) -> dict[str, list[tuple[str, Transform]]]:
  """Returns for each wanted path the keys that fill it."""
  origins: dict[str, list[tuple[str, Transform]]] = {p: [] for p in wanted}
  for key in source:
    matches = [rule for rule in rules if rule.path(key) is not None]
    if len(matches) != 1:
      several = "matched by several rules"
      problems[several if matches else "matched by no rule"].append(key)
      continue
    rule = matches[0]
    if isinstance(rule, Ignore):
      continue
    path = rule.path(key)
    if path in origins:
      origins[path].append((key, rule.transform))
    else:
      problems["no such target"].append(f"{path} <- {key}")
  return origins


def _shape_after(
  transform: Transform, shape: Sequence[int]
) -> tuple[int, ...] | None:
  """The shape the transform gives; None if it cannot be applied."""
  try:
    return transform.forward(np.broadcast_to(np.int8(0), shape)).shape
  except ValueError:
    return None


def _read(
  source: Mapping[str, Any], key: str, transform: Transform, dtype: np.dtype
) -> np.ndarray:
  array = transform.forward(np.asarray(source[key]))
  return np.asarray(array, dtype=dtype, order="C")


def _report(problems: Problems) -> str:
  lines = ["the weights do not fit the model"]
  for title in sorted(problems):
    lines.append(f"{title} ({len(problems[title])}):")
    lines += [f"  {item}" for item in sorted(problems[title])]
  return "\n".join(lines)


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
  """Compiles a template; a field that returns must repeat its text."""
  parts, end, seen = [], 0, set()
  for field in _FIELD.finditer(template):
    name, regex = field[1], field[2] or _NUMBER
    parts.append(re.escape(template[end : field.start()]))
    parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{regex})")
    seen.add(name)
    end = field.end()
  return re.compile("".join([*parts, re.escape(template[end:])]))
