"""A step says what it takes and gives, and its fingerprint changes with what its result depends on, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from components import contract
from components.contract import Component
from components.runner import run
from tests.components.toys import AdditionExecutor, Constant, Number, Sum, Word, two_steps


def test_a_missing_binding_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"sum: expected the inputs and parameters \['numbers', 'plus'\]; received \['plus'\]"):
        Sum("sum", tmp_path, plus=1)


def test_an_unknown_binding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"one: expected the inputs and parameters \['plus'\]; received \['minus', 'plus'\]"):
        Constant("one", tmp_path, plus=1, minus=2)


def test_a_parameter_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="one: parameter plus must be int; received '1'"):
        Constant("one", tmp_path, plus="1")


def test_an_artifact_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sum: input numbers must be a Number; received <.*Word"):
        Sum("sum", tmp_path, numbers=[Number(tmp_path / "one"), Word(tmp_path / "word")], plus=1)


def test_an_input_may_be_an_artifact_a_component_or_a_list_of_both(tmp_path: Path) -> None:
    one, two = Constant("one", tmp_path, plus=1), Number(tmp_path / "two")
    for bound, expected in ((one, ["one"]), (two, ["two"]), ([one, two], ["one", "two"]), ([], [])):
        step = Sum("sum", tmp_path, numbers=bound, plus=1)
        assert [artifact.uri.name for artifact in step.inputs["numbers"]] == expected


@pytest.mark.parametrize("outputs", [{}, {"number": Number, "word": Word}])
def test_a_step_has_exactly_one_output(tmp_path: Path, outputs: dict[str, type]) -> None:
    step = type("Step", (Constant,), {"OUTPUTS": outputs})
    with pytest.raises(ValueError, match="values to unpack"):
        step("one", tmp_path, plus=1)


def test_the_output_is_the_folder_of_the_step(tmp_path: Path) -> None:
    output = Constant("one", tmp_path, plus=1).output
    assert (type(output), output.uri) == (Number, tmp_path / "one")


def test_a_fingerprint_changes_with_a_parameter(tmp_path: Path) -> None:
    assert Constant("one", tmp_path, plus=1).fingerprint() == Constant("one", tmp_path, plus=1).fingerprint()
    assert Constant("one", tmp_path, plus=1).fingerprint() != Constant("one", tmp_path, plus=2).fingerprint()


def _sum_of(workdir: Path, plus: int) -> Component:
    one = Constant("one", workdir, plus=plus)
    run([one])
    return Sum("sum", workdir, numbers=one, plus=0)


def test_a_fingerprint_changes_with_the_content_of_an_input(tmp_path: Path) -> None:
    first, other = _sum_of(tmp_path, plus=1).fingerprint(), _sum_of(tmp_path, plus=2).fingerprint()
    assert first != other
    assert _sum_of(tmp_path, plus=1).fingerprint() == first


def test_a_fingerprint_does_not_change_with_the_workdir(tmp_path: Path) -> None:
    here, there = two_steps(tmp_path / "here"), two_steps(tmp_path / "there")
    run(here)
    run(there)
    assert [step.fingerprint() for step in here] == [step.fingerprint() for step in there]


def test_a_fingerprint_changes_with_the_version_of_a_numeric_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Constant("one", tmp_path, plus=1)
    before = step.fingerprint()
    monkeypatch.setattr(contract, "versions", lambda: {"numpy": "0.1"})
    assert step.fingerprint() != before


@pytest.fixture
def step_with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Component:
    """A step in a repository of its own, with an executor and two rooms of a library, of which it uses one and a file."""
    for name in (
        "toy/component.py",
        "toy/executor.py",
        "intriguing/used/__init__.py",
        "intriguing/other/__init__.py",
        "intriguing/file.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("# as it was\n")
    monkeypatch.setattr(contract, "_REPOSITORY", tmp_path)
    declarations = {
        "__module__": "toy.component",
        "OUTPUTS": {"number": Number},
        "EXECUTOR": AdditionExecutor,
        "LIBRARY": ("used", "file.py"),
    }
    return type("Toy", (Component,), declarations)("toy", tmp_path / "runs")


def _append(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text("# changed\n")


@pytest.mark.parametrize(
    "change",
    [
        _append("toy/executor.py"),
        _append("toy/component.py"),
        _append("toy/new.py"),
        _append("intriguing/used/__init__.py"),
        _append("intriguing/used/new.py"),
        _append("intriguing/used/page.html"),
        _append("intriguing/file.py"),
        lambda root: (root / "toy/executor.py").rename(root / "toy/renamed.py"),
    ],
    ids=[
        "executor",
        "component",
        "new file beside it",
        "library",
        "new file of the library",
        "new template of the library",
        "file of the library",
        "renamed",
    ],
)
def test_a_fingerprint_changes_with_the_code_that_the_step_uses(
    step_with_code: Component, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    before = step_with_code.fingerprint()
    change(tmp_path)
    assert step_with_code.fingerprint() != before


def test_a_fingerprint_does_not_change_with_code_that_the_step_does_not_use(step_with_code: Component, tmp_path: Path) -> None:
    before = step_with_code.fingerprint()
    _append("intriguing/other/__init__.py")(tmp_path)
    assert step_with_code.fingerprint() == before
