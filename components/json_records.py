"""Typed records as JSON, and back: dataclasses, named tuples, mappings and tuples of numbers and text."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

Record = TypeVar("Record")


def to_json(record: Any) -> Any:
    """Returns what `json.dumps` takes: a dataclass as a dictionary, a named tuple as a list, NaN and infinity as None."""
    if dataclasses.is_dataclass(record):
        return {field.name: to_json(getattr(record, field.name)) for field in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {name: to_json(value) for name, value in record.items()}
    if isinstance(record, tuple | list):
        return [to_json(value) for value in record]
    return None if isinstance(record, float) and not math.isfinite(record) else record


def from_json(kind: type[Record], value: Any) -> Record:
    """Reads what `to_json` wrote.

    Args:
        kind: The type of the record: a dataclass, or the type of one of its fields.
        value: From `json.loads`. Keys that the dataclass does not have are left out; a missing key has its default.

    Returns:
        The record. A number that was not finite is NaN, or None where the field may be None.

    Raises:
        TypeError: If a field without default is missing.
    """
    return typing.cast(Record, _read(kind, value))


def _read(kind: Any, value: Any) -> Any:
    members = typing.get_args(kind)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        (member,) = (member for member in members if member is not type(None))
        return None if value is None else _read(member, value)
    if kind is float:
        return math.nan if value is None else float(value)
    if typing.get_origin(kind) is tuple:  # of one type and any length: JSON has lists
        return tuple(_read(members[0], item) for item in value)
    if members:  # a mapping from text
        return {name: _read(members[-1], item) for name, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _read_fields(kind, value)
    if hasattr(kind, "_fields"):
        kinds = typing.get_type_hints(kind).values()
        return kind(*(_read(item_kind, item) for item_kind, item in zip(kinds, value, strict=True)))
    return value


def _read_fields(kind: Any, values: Mapping[str, Any]) -> Any:
    kinds = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind) if field.name in values]
    return kind(**{name: _read(kinds[name], values[name]) for name in names})
