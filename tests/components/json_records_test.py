"""Typed records survive JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping

import pytest

from components.json_records import from_json, to_json
from intriguing.pixels import PixelBox
from intriguing.statistics.proportions import Proportion


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...]
    share: float


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    counts: Mapping[str, Mapping[str, Proportion]]
    inner: tuple[Inner, ...] = ()
    box: PixelBox | None = None
    amount: float | None = None


RECORDS = [
    Outer("empty", {}),
    Outer("full", {"test": {"FC10": Proportion(1, 4)}}, (Inner((1, 2), 0.5), Inner((), 2.0)), PixelBox(-1.0, 2.0), 0.25),
]


@pytest.mark.parametrize("record", RECORDS, ids=["empty", "full"])
def test_records_survive_json(record: Outer) -> None:
    read = from_json(Outer, json.loads(json.dumps(to_json(record), allow_nan=False)))
    assert read == record
    assert [type(inner) for inner in read.inner] == [Inner] * len(record.inner)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_non_finite_numbers_become_nan_or_none(number: float) -> None:
    assert to_json(Inner((), number)) == {"sizes": [], "share": None}
    assert math.isnan(from_json(Inner, {"sizes": [], "share": None}).share)
    assert from_json(Outer, to_json(Outer("", {}, amount=number))).amount is None


def test_unknown_keys_are_ignored_and_missing_fields_have_defaults() -> None:
    assert from_json(Outer, {"name": "old", "counts": {}, "unknown": 1}) == Outer("old", {})


def test_missing_field_without_default_raises() -> None:
    with pytest.raises(TypeError, match="counts"):
        from_json(Outer, {"name": "short"})
