"""The project uses the terms of the field and none of the old words that the conventions list."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("intriguing", "components", "launch", "tests", "docs")
SUFFIXES = (".py", ".md", ".html")
OLD_WORDS = re.compile(
    r"\blanes?\b|_lanes?\b|(?<![a-z])walk(s|ed|ing|er)?(?![a-z])|\btaken for\b|\bvalleys?\b|\blinear world\b|sandwich|\bfed to\b"
    r"|\bmade for\b|\bbrought\b|\barrives?\b|\barrived\b|\bpromise[sd]?\b"
    r"|\barms?\b|\bmeanings\b|\bfinds? out\b|\bhouses?\b|\bin our words\b",
    re.IGNORECASE,
)
ALLOWED = re.compile(
    r"ast\.walk|os\.walk|made for images of|was made for|were not made for"
)  # names of functions, and the purpose of a network
NOT_SEARCHED = {REPOSITORY / "tests" / "words_test.py"}


def _texts() -> list[Path]:
    paths = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*")) if path.suffix in SUFFIXES]
    return [REPOSITORY / "README.md", *(path for path in paths if path not in NOT_SEARCHED)]


def test_old_words_are_detected() -> None:
    for text in (
        "a lane",
        "num_lanes",
        "The walk",
        "nearer_of_walk",
        "is taken for a dog",
        "a valley",
        "Sandwich",
        "fed to others",
        "the first arm",
        "meanings of units",
        "finds out",
        "the plan of the house",
        "an error in our words",
    ):
        assert OLD_WORDS.search(text), text
    assert not OLD_WORDS.search("planes and constraints")


def test_no_text_uses_old_words() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in _texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if OLD_WORDS.search(ALLOWED.sub("", line))
    ]
    assert found == []
