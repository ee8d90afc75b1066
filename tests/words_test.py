"""Texts of the project use the terms of the field: the old words of the glossary in the conventions are gone."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("intriguing", "components", "launch", "tests", "docs")
SUFFIXES = (".py", ".md", ".html")
OLD_WORDS = re.compile(
    r"(?<![a-z])(lanes?|walk(s|ed|ing|er)?|taken for|valleys?|linear world|sandwich\w*|fed to|made for|brought|arrives?|arrived"
    r"|promise[sd]?|bends?|told|tells?|answers?|looks?_at|looks? at|finds? out|climb(s|ed|ing)?|nobody|whoever|walls?|arms?"
    r"|meanings|coheren(t|ce)|houses?|anew|gets? (wrong|right)|so_far|activation_slopes?)(?![a-z])",
    re.IGNORECASE,
)
ALLOWED = re.compile(r"(ast|os)\.walk")  # functions
NOT_SEARCHED = {REPOSITORY / "tests" / "words_test.py"}


def _texts() -> list[Path]:
    paths = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*")) if path.suffix in SUFFIXES]
    return [REPOSITORY / "README.md", *(path for path in paths if path not in NOT_SEARCHED)]


def test_old_words_are_found() -> None:
    for text in (
        "a lane", "num_lanes", "The walk", "nearer_of_walk", "is taken for a dog", "a valley", "sandwich_images", "fed to others",
        "layer.so_far", "the user is told", "the answer", "looks_at_", "the first arm", "the network gets wrong", "a house",
    ):  # fmt: skip
        assert OLD_WORDS.search(text), text
    for text in ("planes and constraints", "negative_slope", "warm", "harmless", "foretold"):
        assert not OLD_WORDS.search(text), text


def test_no_text_uses_old_words() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in _texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if OLD_WORDS.search(ALLOWED.sub("", line))
    ]
    assert found == []
