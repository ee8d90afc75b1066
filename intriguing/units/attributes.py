"""Attributes of images: their classes, or any table of attributes by example id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

_MAX_GROUPS = 512  # maximum number of combinations of attributes, which determines the memory for each direction


class Attributes(NamedTuple):
    """The attributes of examples. Examples with equal attributes form a group; a class is a group with one attribute."""

    names: tuple[str, ...]  # the names of the attributes
    groups: np.ndarray  # [examples] int32, the group of each example
    group_attributes: np.ndarray  # [groups, attributes] bool


def attributes_of_classes(labels: np.ndarray, class_names: Sequence[str]) -> Attributes:
    """Returns attributes where the class of each image is its only attribute.

    Args:
        labels: Integer `[examples]`, or one-hot rows `[examples, classes]`.
        class_names: The name of each class.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If a label is not the number of a class.

    Example:
        >>> attributes = attributes_of_classes(labels, class_names)
    """
    labels = class_numbers(labels, "labels", num_classes=len(class_names))
    if labels.size and not (labels.min() >= 0 and labels.max() < len(class_names)):
        raise ValueError(
            f"labels must lie in [0, {len(class_names)}), the number of classes; received {labels.min()} to {labels.max()}."
        )
    return Attributes(tuple(class_names), labels, np.eye(len(class_names), dtype=bool))


def class_numbers(labels: Any, name: str, *, num_classes: int | None = None) -> np.ndarray:
    """Returns the numbers of classes, int32 `[examples]`.

    Args:
        labels: Integer `[examples]` or `[examples, 1]`, or one-hot rows `[examples, classes]` of any dtype.
        name: The name of the argument in messages.
        num_classes: The length of one-hot rows; None if it is not known.

    Raises:
        TypeError: If the labels are not integers.
        ValueError: If rows are not one-hot, or have another length.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        is_number = labels.dtype.kind in "biuf" and num_classes in (None, labels.shape[1])
        if not is_number or not np.all(np.sort(labels, axis=1) == np.eye(labels.shape[1])[-1]):
            length = "" if num_classes is None else f" of length {num_classes}"
            raise ValueError(
                f"{name} must be one integer for each image, or one-hot rows{length}; received {labels.dtype} of shape "
                f"{labels.shape}. Pass {name}.argmax(axis=-1) if the largest entry marks the class."
            )
        labels = labels.argmax(axis=1)
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"{name} must be integers; received {labels.dtype}. Pass {name}.astype('int32').")
    return labels.astype(np.int32)


def attributes_of_kinds(labels: np.ndarray, kinds: Mapping[str, Sequence[tuple[int, int]]]) -> Attributes:
    """Returns attributes where the kind of the class is the only attribute; useful for many classes with few images each.

    Args:
        labels: Integer `[examples]`, or one-hot rows.
        kinds: The classes of each kind as ranges, both ends included. A class in several kinds belongs to the first one.

    Raises:
        ValueError: If a label does not belong to a kind.

    Example:
        >>> kinds = {"fish": [(0, 6), (389, 397)], "other animal": [(0, 397)], "thing": [(398, 999)]}
        >>> attributes_of_kinds(np.array([1, 388, 970]), kinds).names
        ('fish', 'other animal', 'thing')
    """
    labels = class_numbers(labels, "labels")
    belongs = np.array(
        [np.any([(first <= labels) & (labels <= last) for first, last in ranges], axis=0) for ranges in kinds.values()]
    )
    unmatched = labels[~belongs.any(axis=0)]
    if unmatched.size:
        raise ValueError(
            f"every class must belong to a kind; received {unmatched[0]}, in none of {', '.join(kinds)}. Add a range for it."
        )
    return attributes_of_classes(belongs.argmax(axis=0), list(kinds))


def attributes_from_table(ids: Sequence[str], table: Mapping[str, Mapping[str, str]]) -> Attributes:
    """Returns the attributes of examples from a table with their ids.

    A column of 0 and 1 is one attribute; any other column is one attribute for each of its values.

    Args:
        ids: The example ids, in the order of the examples.
        table: From ids to columns to entries; other ids are ignored.

    Raises:
        ValueError: If an id is missing or has no entry in a column, or if there are too many combinations of attributes.

    Example:
        >>> table = {"a": {"color": "red"}, "b": {"color": "blue"}}
        >>> attributes = attributes_from_table(["a", "b", "a"], table)
    """
    columns = _complete_columns(ids, table)
    names: list[str] = []
    has: list[np.ndarray] = []
    for name, entries in columns.items():
        values = ["1"] if set(entries) <= {"0", "1"} else sorted(set(entries))
        names += [name if values == ["1"] else f"{name}={value}" for value in values]
        has += [np.array([entry == value for entry in entries]) for value in values]
    group_attributes, groups = np.unique(np.stack(has, axis=1), axis=0, return_inverse=True)
    if len(group_attributes) > _MAX_GROUPS:
        raise ValueError(
            f"the number of combinations of attributes must be at most {_MAX_GROUPS}; received {len(group_attributes)}. "
            "Pass fewer columns."
        )
    return Attributes(tuple(names), groups.reshape(-1).astype(np.int32), group_attributes)


def _complete_columns(ids: Sequence[str], table: Mapping[str, Mapping[str, str]]) -> dict[str, list[str]]:
    missing = [example for example in ids if example not in table]
    if missing:
        raise ValueError(
            f"the table of attributes must have a row for every example; {len(missing)} of {len(ids)} are missing, such as "
            f"{missing[0]!r}. Add them, or choose another subset."
        )
    names = list(dict.fromkeys(name for example in ids for name in table[example]))
    if not names:
        raise ValueError("the table of attributes must have a column for each attribute; received only ids. Add columns.")
    columns = {name: [table[example].get(name) or "" for example in ids] for name in names}
    for name, entries in columns.items():
        if "" in entries:
            raise ValueError(
                f"the column {name!r} must have an entry for every example; {entries.count('')} of {len(ids)} are missing, "
                f"such as {ids[entries.index('')]!r}. Add entries, for example 0."
            )
    return columns
