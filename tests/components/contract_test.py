"""A step declares its inputs, parameters and output, and its fingerprint changes exactly with what its result depends on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components import contract
from components.contract import Component
from components.runner import run
from components.source_files import source_files
from tests.components.toys import AdditionExecutor, Constant, Number, Sum, Word, two_steps


def test_missing_argument_error_names_the_expected_type(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"sum: expected the inputs and parameters \['numbers', 'plus'\]; received \['plus'\]"):
        Sum("sum", tmp_path, plus=1)


def test_unknown_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"one: expected the inputs and parameters \['plus'\]; received \['minus', 'plus'\]"):
        Constant("one", tmp_path, plus=1, minus=2)


def test_a_parameter_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="one: parameter plus must be int; received '1'"):
        Constant("one", tmp_path, plus="1")


def test_an_artifact_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sum: input numbers must be a Number; received <.*Word"):
        Sum("sum", tmp_path, numbers=[Number(tmp_path / "one"), Word(tmp_path / "word")], plus=1)


def test_inputs_are_artifacts_components_or_lists_of_both(tmp_path: Path) -> None:
    one, two = Constant("one", tmp_path, plus=1), Number(tmp_path / "two")
    for bound, expected in ((one, ["one"]), (two, ["two"]), ([one, two], ["one", "two"]), ([], [])):
        step = Sum("sum", tmp_path, numbers=bound, plus=1)
        assert [artifact.uri.name for artifact in step.inputs["numbers"]] == expected


@pytest.mark.parametrize("outputs", [{}, {"number": Number, "word": Word}])
def test_a_step_has_exactly_one_output(tmp_path: Path, outputs: dict[str, type]) -> None:
    step = type("Step", (Constant,), {"OUTPUTS": outputs})
    with pytest.raises(ValueError, match="values to unpack"):
        step("one", tmp_path, plus=1)


def test_output_is_the_folder_of_the_step(tmp_path: Path) -> None:
    output = Constant("one", tmp_path, plus=1).output
    assert (type(output), output.uri) == (Number, tmp_path / "one")


def test_fingerprint_changes_with_a_parameter(tmp_path: Path) -> None:
    assert Constant("one", tmp_path, plus=1).fingerprint() == Constant("one", tmp_path, plus=1).fingerprint()
    assert Constant("one", tmp_path, plus=1).fingerprint() != Constant("one", tmp_path, plus=2).fingerprint()


def _sum_of(workdir: Path, plus: int) -> Component:
    one = Constant("one", workdir, plus=plus)
    run([one])
    return Sum("sum", workdir, numbers=one, plus=0)


def test_fingerprint_changes_with_the_content_of_an_input(tmp_path: Path) -> None:
    first, other = _sum_of(tmp_path, plus=1).fingerprint(), _sum_of(tmp_path, plus=2).fingerprint()
    assert first != other
    assert _sum_of(tmp_path, plus=1).fingerprint() == first


def test_fingerprint_ignores_the_workdir(tmp_path: Path) -> None:
    here, there = two_steps(tmp_path / "here"), two_steps(tmp_path / "there")
    run(here)
    run(there)
    assert [step.fingerprint() for step in here] == [step.fingerprint() for step in there]


def test_fingerprint_changes_with_the_version_of_a_numeric_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Constant("one", tmp_path, plus=1)
    before = step.fingerprint()
    monkeypatch.setattr(contract, "versions", lambda: {"numpy": "0.1"})
    assert step.fingerprint() != before


SOURCES = {
    "components/__init__.py": "",
    "components/toy/component.py": "from components.toy import executor",
    "components/toy/executor.py": "import components.other.network\nfrom intriguing.used import compute",
    "components/other/__init__.py": "",
    "components/other/network.py": "def build():\n    from intriguing import file",
    "components/other/executor.py": "",
    "intriguing/__init__.py": "from intriguing import file, unused, used",
    "intriguing/used/__init__.py": "from intriguing.used.computations import compute",
    "intriguing/used/computations.py": "import numpy as np\nfrom intriguing.used.constants import ONE\ncompute = len",
    "intriguing/used/constants.py": "ONE = 1",
    "intriguing/used/page.html": "<html>",
    "intriguing/used/unused.py": "",
    "intriguing/file.py": "",
    "intriguing/unused/__init__.py": "",
}
NOT_RUN = {"intriguing/__init__.py", "components/__init__.py", "components/other/executor.py"}
USED = [name for name in SOURCES if "unused" not in name and name not in NOT_RUN]


@pytest.fixture
def step_with_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Component:
    """A step in a repository of its own."""
    for name, source in SOURCES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr(contract, "_REPOSITORY", tmp_path)
    declarations = {"__module__": "components.toy.component", "OUTPUTS": {"number": Number}, "EXECUTOR": AdditionExecutor}
    return type("Toy", (Component,), declarations)("toy", tmp_path / "runs")


def _append(root: Path, name: str) -> None:
    with (root / name).open("a") as file:
        file.write("\n# changed\n")


@pytest.mark.parametrize("name", USED)
def test_fingerprint_changes_with_every_file_that_the_step_imports(
    step_with_code: Component, tmp_path: Path, name: str
) -> None:
    before = step_with_code.fingerprint()
    _append(tmp_path, name)
    assert step_with_code.fingerprint() != before


def test_fingerprint_changes_with_file_names(step_with_code: Component, tmp_path: Path) -> None:
    before = step_with_code.fingerprint()
    (tmp_path / "components/toy/executor.py").rename(tmp_path / "components/toy/renamed.py")
    assert step_with_code.fingerprint() != before


@pytest.mark.parametrize("name", sorted(set(SOURCES) - set(USED)))
def test_fingerprint_ignores_files_that_the_step_does_not_import(step_with_code: Component, tmp_path: Path, name: str) -> None:
    before = step_with_code.fingerprint()
    _append(tmp_path, name)
    assert step_with_code.fingerprint() == before


@pytest.mark.parametrize("line", ["import intriguing", "from intriguing import compute_all"])
def test_importing_the_package_itself_depends_on_the_whole_library(
    step_with_code: Component, tmp_path: Path, line: str
) -> None:
    (tmp_path / "components/toy/executor.py").write_text(line)
    assert {
        tmp_path / name for name in SOURCES if name.startswith("intriguing/") and name.endswith("__init__.py")
    } <= source_files("components.toy.component", tmp_path)


@pytest.mark.parametrize("module", ["adversarial_trainer.component", "studies.unit_comparison"])
def test_step_depends_on_every_first_party_module_that_it_loads(module: str) -> None:
    root = Path(contract.__file__).parent.parent
    program = (
        "import sys, types\n"
        "package = sys.modules['intriguing'] = types.ModuleType('intriguing')\n"  # its __init__ imports the whole library
        "package.__path__ = ['intriguing']\n"
        f"import components.{module}\n"
        "for name, module in sys.modules.items():\n"
        "    if name.startswith(('intriguing.', 'components.')): print(module.__file__)"
    )
    output = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True).stdout
    loaded = {root / path for path in output.split()}
    assert len(loaded) > 50
    assert loaded <= source_files(f"components.{module}", root)
