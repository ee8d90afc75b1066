"""The links, commands and snippets of the README and of docs/ work."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from absl import flags

from intriguing.models import build
from tests.launch.conftest import _own_flags

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
MAX_README_LINES = 120

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))


def _fences(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _commands(text: str) -> list[list[str]]:
    """Returns the words after `python -m` of all commands, in blocks and within sentences."""
    spans = [
        span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    ]
    lines = [line for fence in _fences(text, "") for line in fence.splitlines()]
    return [shlex.split(line)[2:] for line in (*spans, *lines) if line.startswith("python -m ")]


def test_commands_and_snippets_are_extracted_from_pages() -> None:
    text = "Run `python -m a.b\n--c=1`.\n```\npython -m d 'e f'\n```\n```python\nx = 1\n```\n"
    assert _commands(text) == [["a.b", "--c=1"], ["d", "e f"]]
    assert _fences(text, "python") == ["x = 1\n"]


def test_the_readme_is_short() -> None:
    assert len(PAGES[0].read_text().splitlines()) <= MAX_README_LINES


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_point_to_existing_files_and_headings(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), link
        assert not anchor or anchor in _anchors(target), link


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in re.findall(r"\]\(([^)]+\.md[^)]*)\)", page.read_text())
    }
    assert set(PAGES[1:]) <= linked


@every_page
def test_commands_use_existing_scripts_and_flags(page: Path) -> None:
    for module, *arguments in _commands(page.read_text()):
        if module.startswith("launch."):
            _parse(module, arguments)
        elif module.startswith("tests.benchmarks."):
            assert importlib.util.find_spec(module), module
        else:
            assert module == "pytest"


def _parse(module: str, arguments: list[str]) -> None:
    """Parses flags like the script. Raises for an unknown flag or recipe."""
    with _own_flags():
        script: Any = importlib.import_module(module)
        assert flags.FLAGS([module, *arguments]) == [module], arguments
        if "recipe" in flags.FLAGS:
            script.load_recipe(flags.FLAGS.recipe)


def test_unknown_flags_in_commands_are_detected() -> None:
    with pytest.raises(flags.UnrecognizedFlagError):
        _parse("launch.attack", ["--no_such_flag=1"])


@pytest.fixture
def known_names() -> dict[str, Any]:
    """Names used by the snippets: a small network, images, and their classes."""
    model = build("FC100-100-10", image_shape=(6, 6, 1))
    images = np.random.default_rng(0).uniform(size=(200, 6, 6, 1)).astype(np.float32)
    labels = np.argmax(model(images), axis=1)
    return {"model": model, "images": images, "labels": labels, "class_names": [str(number) for number in range(10)]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if _fences(page.read_text(), "python")], ids=lambda page: str(page.relative_to(REPOSITORY))
)
def test_snippets_run(page: Path, known_names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some snippets write files
    for snippet in _fences(page.read_text(), "python"):
        exec(compile(snippet, str(page), "exec"), known_names)
    assert isinstance(known_names["model"], keras.Model)
