"""Texts of the project use the terms of the field: the old words of the glossary in the conventions are gone."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("intriguing", "components", "launch", "tests", "docs")
SUFFIXES = (".py", ".md", ".html")
OLD_WORDS = re.compile(
    r"\blanes?\b|_lanes?\b|(?<![a-z])walk(s|ed|ing|er)?(?![a-z])|\btaken for\b|\bvalleys?\b|\blinear world\b|sandwich|\bfed to\b"
    r"|\bmade for\b|\bbrought\b|\barrives?\b|\barrived\b|\bpromise[sd]?\b",
    re.IGNORECASE,
)
ALLOWED = re.compile(
    r"ast\.walk|os\.walk|made for images of|was made for|were not made for"
)  # functions; what a network is made for
# Words that are no longer in the packages below; other packages still have some of them.
OLD_WORDS_OF_BOUNDS = re.compile(
    r"so_far|\bslope_of|activation_slope|(?<![a-z])(bends?|told|tells?|says?|answers?|looks?_at|looks? at|finds? out|climb(s|ed|ing)?)"
    r"(?![a-z])|(?<![a-z])(nobody|whoever|steep(er|est)?|walls?|behind|said)(?![a-z])",
    re.IGNORECASE,
)
PACKAGES_OF_BOUNDS = ("lipschitz", "optimize", "distribution", "statistics", "pixels", "distortion", "names")
ALLOWED_OF_BOUNDS = re.compile(r"steep\(|\(steep,|def steep")  # an example of an activation function
NOT_SEARCHED = {REPOSITORY / "tests" / "words_test.py"}


def _texts() -> list[Path]:
    paths = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*")) if path.suffix in SUFFIXES]
    return [REPOSITORY / "README.md", *(path for path in paths if path not in NOT_SEARCHED)]


def _texts_of_bounds() -> list[Path]:
    paths = [*(REPOSITORY / "intriguing").rglob("*.py"), *(REPOSITORY / "tests" / "intriguing").rglob("*.py")]
    parts = {path: path.parts[path.parts.index("intriguing", len(REPOSITORY.parts)) + 1] for path in paths}
    return sorted(path for path, part in parts.items() if re.sub(r"(_test)?\.py$", "", part) in PACKAGES_OF_BOUNDS)


def _found(paths: list[Path], words: re.Pattern[str], allowed: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if words.search(allowed.sub("", line))
    ]


def test_old_words_are_found() -> None:
    for text in (
        "a lane",
        "num_lanes",
        "The walk",
        "nearer_of_walk",
        "is taken for a dog",
        "a valley",
        "Sandwich",
        "fed to others",
    ):
        assert OLD_WORDS.search(text), text
    assert not OLD_WORDS.search("planes and constraints")


def test_no_text_uses_old_words() -> None:
    assert _found(_texts(), OLD_WORDS, ALLOWED) == []


def test_old_words_of_bounds_are_found() -> None:
    for text in (
        "layer.so_far",
        "what a layer bends",
        "the user is told",
        "test_the_residual_tells",
        "the answer",
        "_looks_at_",
    ):
        assert OLD_WORDS_OF_BOUNDS.search(text), text
    assert not OLD_WORDS_OF_BOUNDS.search("negative_slope and essays")


def test_bounds_optimizers_distribution_and_statistics_use_no_old_words() -> None:
    assert len(_texts_of_bounds()) > 60
    assert _found(_texts_of_bounds(), OLD_WORDS_OF_BOUNDS, ALLOWED_OF_BOUNDS) == []
