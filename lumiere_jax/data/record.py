# SPDX-License-Identifier: Apache-2.0
"""Reads and writes records of tf.train.Example without TensorFlow."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumiere_jax.errors import UserError

# The messages as (field, number, type), of the fields that clips use; numbers
# as in tensorflow/core/example/{example,feature}.proto. A leading "*" marks a
# repeated field.
_MESSAGES = {
  "BytesList": (("*value", 1, "bytes"),),
  "Int64List": (("*value", 1, "int64"),),
  "Feature": (("bytes_list", 1, "BytesList"), ("int64_list", 3, "Int64List")),
  # What a map<string, Feature> is on the wire: a list of pairs.
  "Entry": (("key", 1, "string"), ("value", 2, "Feature")),
  "Features": (("*feature", 1, "Entry"),),
  "Example": (("features", 1, "Features"),),
}


@functools.cache
def _example_class() -> type:
  """The message class, in a descriptor pool of its own."""
  from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

  field = descriptor_pb2.FieldDescriptorProto
  scalars = {
    "bytes": field.TYPE_BYTES,
    "int64": field.TYPE_INT64,
    "string": field.TYPE_STRING,
  }
  file = descriptor_pb2.FileDescriptorProto(
    name="clip.proto", package="clip", syntax="proto3"
  )
  for message_name, fields in _MESSAGES.items():
    message = file.message_type.add(name=message_name)
    for name, number, kind in fields:
      repeated = name.startswith("*")
      message.field.add(
        name=name.removeprefix("*"),
        number=number,
        label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
        type=scalars.get(kind, field.TYPE_MESSAGE),
        type_name=None if kind in scalars else f".clip.{kind}",
      )
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(
    pool.FindMessageTypeByName("clip.Example")
  )


def serialize(values: Mapping[str, bytes | int]) -> bytes:
  """The record of bytes and integers, by their names; `parse` inverts it."""
  example = _example_class()()
  for key in sorted(values):
    entry = example.features.feature.add(key=key)
    value = values[key]
    if isinstance(value, int):
      entry.value.int64_list.value.append(value)
    else:
      entry.value.bytes_list.value.append(value)
  return example.SerializeToString(deterministic=True)


def parse(record: bytes) -> dict[str, bytes | int]:
  """The first value of each feature of a record: bytes, or an integer.

  Raises:
    UserError: the bytes are no tf.train.Example.
  """
  from google.protobuf.message import DecodeError

  try:
    example = _example_class().FromString(record)
  except DecodeError as error:
    raise UserError(f"not a tf.train.Example record: {error}") from error
  return {
    entry.key: (entry.value.bytes_list.value or entry.value.int64_list.value)[0]
    for entry in example.features.feature
  }


def open_records(files: Sequence[Path]) -> Any:
  """The records of ArrayRecord files, by random access.

  Raises:
    UserError: one of them is no such file, or damaged at its end.
  """
  import grain

  def opened(some: Sequence[Path]) -> Any:
    return grain.sources.ArrayRecordDataSource([str(file) for file in some])

  try:
    return opened(files)
  except RuntimeError:
    for file in files:
      try:
        opened([file])
      except RuntimeError as error:
        text = " ".join(str(error).split())
        raise UserError(
          f"{file} is damaged ({text}); data.write makes it anew"
        ) from error
    raise
