# SPDX-License-Identifier: Apache-2.0
"""Plain dictionaries to typed configuration and back, with named errors."""

import ast
import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from lumiere_jax.config.check import told_as
from lumiere_jax.config.recipe import Config
from lumiere_jax.errors import UserError, nearest

Group = TypeVar("Group")


def from_dict(values: Mapping[str, Any], kind: type[Group] = Config) -> Group:
  """Builds a configuration from nested mappings; what misses keeps its default.

  Args:
    values: fields by name.
    kind: the whole configuration, or the class of one of its groups.

  Raises:
    UserError: an unknown field, an ill-typed value, or a failed check.
  """
  return _build(kind, values, "")


def to_dict(config: Any) -> dict[str, Any]:
  """The plain nested dictionary of a config; `from_dict` inverts it."""
  return dataclasses.asdict(config)


def override(values: Mapping[str, Any], path: str, text: str) -> dict[str, Any]:
  """Returns a copy of nested `values` with the field at `path` set from text.

  Args:
    values: nested mappings, as `to_dict` makes them.
    path: dotted field, as "train.batch_size".
    text: the value in Python's notation; bare words are strings.

  Raises:
    UserError: no such field.
  """
  head, _, rest = path.partition(".")
  result = dict(values)
  if head not in result:
    raise UserError(f"unknown config field {head!r}{nearest(head, result)}")
  if not rest:
    # "none" names a choice of many fields that hold text.
    worded = isinstance(result[head], str)
    value = _literal(text)
    result[head] = text if worded and not isinstance(value, str) else value
  elif isinstance(result[head], Mapping):
    result[head] = override(result[head], rest, text)
  else:
    raise UserError(f"config field {head!r} has no field {rest!r}")
  return result


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
  """Returns nested `base` with the fields of `top` in place of its own."""
  result = dict(base)
  for name, value in top.items():
    if isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
      value = overlay(result[name], value)
    result[name] = value
  return result


def differences(
  old: Any, new: Any, path: str = ""
) -> list[tuple[str, Any, Any]]:
  """Returns (dotted name, old, new) of every field that differs."""
  if isinstance(old, Mapping) and isinstance(new, Mapping):
    return [
      difference
      for name in sorted(old.keys() | new.keys())
      for difference in differences(
        old.get(name), new.get(name), f"{path}.{name}" if path else name
      )
    ]
  return [] if old == new else [(path, old, new)]


def _literal(text: str) -> Any:
  words = {"true": True, "false": False, "none": None, "null": None}
  if text.lower() in words:
    return words[text.lower()]
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return text


def _build(cls: type, values: Mapping[str, Any], path: str) -> Any:
  types_of = typing.get_type_hints(cls)
  known = {f.name for f in dataclasses.fields(cls)}
  for name in values:
    if name not in known:
      raise UserError(
        f"unknown config field {path + name!r}{nearest(name, known)}"
      )
  return cls(
    **{
      name: _convert(value, types_of[name], path + name)
      for name, value in values.items()
    }
  )


def _convert(value: Any, kind: Any, path: str) -> Any:
  """Checks one value against its annotation; ints pass as floats."""
  if typing.get_origin(kind) in (types.UnionType, typing.Union):
    return _convert_union(value, typing.get_args(kind), path)
  if dataclasses.is_dataclass(kind):
    if not isinstance(value, Mapping):
      raise UserError(f"{path}={value!r} must be a group of fields")
    with told_as(path.removeprefix("upscaler_"), path):
      return _build(kind, value, path + ".")
  if typing.get_origin(kind) is tuple:
    if not isinstance(value, (list, tuple)):
      raise UserError(f"{path}={value!r} must be a list")
    items = typing.get_args(kind)
    item = items[0]
    if items[-1] is not Ellipsis and len(value) != len(items):
      raise UserError(f"{path}={value!r} must have {len(items)} entries")
    return tuple(_convert(v, item, f"{path}[{i}]") for i, v in enumerate(value))
  if kind is float and type(value) is int:
    return float(value)
  if type(value) is not kind:
    raise UserError(f"{path}={value!r} must be of type {kind.__name__}")
  return value


def _convert_union(value: Any, kinds: tuple[Any, ...], path: str) -> Any:
  if value is None and types.NoneType in kinds:
    return None
  kinds = tuple(k for k in kinds if k is not types.NoneType)
  for kind in kinds:
    fits = (typing.get_origin(kind) is tuple) == isinstance(
      value, (list, tuple)
    )
    if fits:
      return _convert(value, kind, path)
  return _convert(value, kinds[0], path)
