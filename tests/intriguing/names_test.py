"""Errors for unknown names suggest the nearest known name."""

import pytest

from intriguing.names import check_name

KNOWN = ("FC10", "FC100-100-10", "AE400-10")


def test_accepts_a_known_name():
    check_name("FC10", KNOWN, "model")


@pytest.mark.parametrize("typed", ["FC100-10-100", "fc100-100-10"])
def test_nearest_name_is_suggested_for_any_case(typed):
    words = f"unknown model '{typed}'. Did you mean 'FC100-100-10'\\? Known: FC10, FC100-100-10, AE400-10."
    with pytest.raises(ValueError, match=words):
        check_name(typed, KNOWN, "model")


def test_known_names_are_listed_if_none_is_near():
    with pytest.raises(ValueError, match="unknown recipe 'zzz'. Known: FC10, FC100-100-10, AE400-10."):
        check_name("zzz", iter(KNOWN), "recipe")
