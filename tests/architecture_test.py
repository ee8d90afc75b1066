"""Checks the structure of the sources: import order, private names, docstrings, and file sizes."""

from __future__ import annotations

import ast
import graphlib
import importlib
import re
import statistics
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("intriguing", "components", "launch")

# Imports go to packages of a lower rank.
ORDER = {
    "pixels": 0, "distortion": 0, "names": 0, "distribution": 0, "statistics": 0, "optimize": 0,
    "data": 1, "models": 1,
    "attack": 2, "evaluation": 2, "units": 2, "lipschitz": 2,
    "training": 3, "reporting": 4, "components": 5, "launch": 6,
}  # fmt: skip
BASE_PACKAGES = {
    package for package, rank in ORDER.items() if rank == 0
}  # these may import each other, but without cycles of modules
SUBPACKAGES = (
    "attack", "data", "distribution", "evaluation", "lipschitz", "models", "optimize", "reporting", "statistics", "training", "units",
)  # fmt: skip
MAX_LINES, MAX_MEDIAN_LINES = 350, 8
FORBIDDEN_NAMES = {"utils", "util", "misc", "common", "helpers", "helper"}


def _sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _where(path: Path, node: ast.AST | None = None) -> str:
    return f"{path.relative_to(REPOSITORY)}" + (f":{node.lineno}" if node is not None else "")


def _imports(tree: ast.AST) -> Iterator[str]:
    """Yields the imported names as `package.module.name`; relative imports begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def _package(dotted: str) -> str | None:
    """Returns the package of an import, or None for a module outside of this repository."""
    parts = dotted.split(".")
    if parts[0] in ("components", "launch"):
        return parts[0]
    return parts[1] if parts[0] == "intriguing" and len(parts) > 1 else None


def _package_of_file(path: Path) -> str | None:
    return _package(".".join(path.relative_to(REPOSITORY).with_suffix("").parts))


def _may_import(package: str, other: str) -> bool:
    return package == other or {package, other} <= BASE_PACKAGES or ORDER[other] < ORDER[package]


def test_imports_finds_every_form_of_import() -> None:
    source = "import a.b as c\nfrom d import e, f\ndef g():\n    from h.i import j\nif TYPE_CHECKING:\n    from . import k"
    assert sorted(_imports(ast.parse(source))) == sorted(["a.b", "d.e", "d.f", "h.i.j", "..k"])
    names = ("intriguing.attack.objective", "intriguing.pixels", "launch.train.main", "keras", "intriguing")
    assert [_package(name) for name in names] == ["attack", "pixels", "launch", None, None]


@pytest.mark.parametrize(
    ("package", "other", "allowed"),
    [
        ("data", "models", False), ("models", "data", False), ("attack", "units", False), ("lipschitz", "attack", False),
        ("evaluation", "attack", False), ("training", "attack", True), ("attack", "training", False),
        ("units", "training", False), ("training", "lipschitz", True), ("distortion", "pixels", True),
        ("optimize", "distribution", True), ("optimize", "models", False), ("pixels", "data", False),
        ("reporting", "units", True), ("units", "reporting", False), ("components", "reporting", True),
        ("launch", "components", True), ("components", "launch", False), ("attack", "attack", True),
    ],
)  # fmt: skip
def test_import_order_matches_the_conventions(package: str, other: str, allowed: bool) -> None:
    assert _may_import(package, other) is allowed


def test_every_file_belongs_to_a_package_of_the_import_order() -> None:
    packages = {_package_of_file(path) for path in _sources(*FOLDERS)} - {"__init__"}
    assert packages == set(ORDER)


def test_packages_import_only_earlier_packages() -> None:
    wrong = []
    for path in _sources(*FOLDERS):
        package = _package_of_file(path)
        if package == "__init__":  # intriguing/__init__.py imports all packages
            continue
        others = {(dotted, _package(dotted)) for dotted in _imports(_tree(path))}
        wrong += [f"{_where(path)} imports {dotted}" for dotted, other in others if other and not _may_import(package, other)]
    assert wrong == []


def test_imports_are_absolute() -> None:
    assert [
        _where(path) for path in _sources(*FOLDERS, "tests") if any(name.startswith(".") for name in _imports(_tree(path)))
    ] == []


def test_the_library_imports_neither_pipelines_nor_flags() -> None:
    wrong = []
    for path in _sources("intriguing"):
        names = {dotted.split(".")[0] for dotted in _imports(_tree(path))}
        wrong += [f"{_where(path)} imports {name}" for name in names & {"components", "launch", "absl", "argparse", "tests"}]
    assert wrong == []


def _importers(package: str) -> set[str]:
    return {
        _where(path) for path in _sources(*FOLDERS) if any(dotted.split(".")[0] == package for dotted in _imports(_tree(path)))
    }


def test_only_lbfgs_imports_tensorflow_probability() -> None:
    assert _importers("tensorflow_probability") == {"intriguing/optimize/lbfgs.py"}


_PRIVATE_NAMES = re.compile(r"_(flatten_layers|run_through_graph|keras_history|inbound_nodes|physical_devices|initialized)")
_READERS_OF_PRIVATE_NAMES = {
    "intriguing/distribution/tensorflow_internals.py", "intriguing/models/keras_internals.py",
}  # fmt: skip


def _reads_private_names(tree: ast.AST) -> bool:
    """Returns whether code reads a private attribute of Keras or TensorFlow, or imports a private module of them."""
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    modules = [name for name in _imports(tree) if name.startswith(("tensorflow.python", "keras.src"))]
    return bool(modules) or any(_PRIVATE_NAMES.fullmatch(attribute) for attribute in attributes)


@pytest.mark.parametrize(
    "source",
    [
        "model._flatten_layers()",
        "def f(t):\n    return t._keras_history",
        "import keras.src.ops",
        "from tensorflow.python.eager import x",
    ],
)
def test_private_names_are_detected(source: str) -> None:
    assert _reads_private_names(ast.parse(source))


def test_few_files_read_private_names_of_keras_and_tensorflow() -> None:
    """If Keras or TensorFlow moves a private name, only the tests of these files fail."""
    found = {_where(path) for path in _sources(*FOLDERS) if _reads_private_names(_tree(path))}
    assert found <= _READERS_OF_PRIVATE_NAMES


def test_reporting_imports_no_tensorflow() -> None:
    assert {where for where in _importers("tensorflow") | _importers("keras") if "/reporting/" in where} == set()


def test_only_the_data_package_imports_tensorflow_datasets() -> None:
    assert {str(Path(where).parent) for where in _importers("tensorflow_datasets")} == {"intriguing/data"}


_DEVICE = re.compile(r"(/.*device:)?(CPU|GPU|TPU)(:(\d+|\*))?", re.IGNORECASE)


def _device_names(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _DEVICE.fullmatch(node.value):
            yield node
        if isinstance(node, ast.Attribute) and re.fullmatch(r"device|list_(physical|logical)_devices", node.attr):
            yield node


@pytest.mark.parametrize(
    "source", ["tf.device(x)", "f('CPU:0')", "f('/device:GPU:*')", "f('gpu')", "tf.config.list_logical_devices()"]
)
def test_device_names_are_detected(source: str) -> None:
    assert list(_device_names(ast.parse(source)))


def test_only_the_strategy_module_names_devices() -> None:
    found = {_where(path) for path in _sources("intriguing") if any(_device_names(_tree(path)))}
    assert found == {"intriguing/distribution/strategy.py"}


def test_the_sources_have_no_bare_assert() -> None:
    found = [
        _where(path, node) for path in _sources(*FOLDERS) for node in ast.walk(_tree(path)) if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_no_module_has_a_generic_name() -> None:
    paths = _sources(*FOLDERS, "tests")
    assert [
        _where(path)
        for path in paths
        if FORBIDDEN_NAMES & {part.removesuffix(".py") for part in path.relative_to(REPOSITORY).parts}
    ] == []


def test_the_library_never_converts_tensors_to_arrays() -> None:
    found = [
        _where(path, node)
        for path in _sources("intriguing")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "numpy"
    ]
    assert found == []


def _public_definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yields public functions and classes, and the public methods of those classes."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not child.name.startswith("_"):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from _public_definitions(child, f"{child.name}.")


def test_every_public_name_has_a_docstring() -> None:
    found = []
    for path in _sources(*FOLDERS):
        definitions: Iterable[tuple[str, ast.AST]] = _public_definitions(_tree(path))
        found += [f"{_where(path, node)} {name}" for name, node in definitions if not ast.get_docstring(node)]
    assert found == []


def test_every_file_has_a_docstring() -> None:
    assert [_where(path) for path in _sources(*FOLDERS) if not ast.get_docstring(_tree(path))] == []


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_subpackages_list_existing_public_names_once(name: str) -> None:
    package = importlib.import_module(f"intriguing.{name}")
    assert package.__all__, "every subpackage lists its public names"
    assert [public for public in package.__all__ if not hasattr(package, public)] == []
    assert len(set(package.__all__)) == len(package.__all__)
    assert [public for public in package.__all__ if public.startswith("_")] == []


def test_the_library_exposes_its_subpackages() -> None:
    package = importlib.import_module("intriguing")
    assert set(SUBPACKAGES) <= set(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def test_every_test_folder_mirrors_a_source_folder() -> None:
    not_mirrored = {"oracles", "benchmarks", "distribution"}  # oracles, benchmarks, and tests of strategies with all packages
    folders = {path.parent.relative_to(REPOSITORY / "tests") for path in _sources("tests")}
    assert [
        str(folder)
        for folder in folders
        if folder.parts and folder.parts[0] not in not_mirrored and not (REPOSITORY / folder).is_dir()
    ] == []


def _modules_imported_by(path: Path) -> set[str]:
    """Returns the modules of `intriguing` that a file imports when it is imported."""
    statements = [node for node in _tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name for statement in statements for name in _imports(statement) if name.startswith("intriguing.")}
    return {candidate for name in names for candidate in (name, name.rpartition(".")[0]) if candidate in MODULES}


def _module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_module_name(path) for path in _sources("intriguing")}


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    """Returns the modules of a cycle, or an empty list if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_import_cycles_are_detected() -> None:
    assert set(_cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}


def test_modules_have_no_import_cycles() -> None:
    graph = {_module_name(path): _modules_imported_by(path) for path in _sources("intriguing") if path.name != "__init__.py"}
    assert sum(map(len, graph.values())) > 100
    assert _cycle(graph) == []


def test_files_stay_below_the_line_limit() -> None:
    lengths = {_where(path): len(path.read_text().splitlines()) for path in _sources(*FOLDERS)}
    assert {where: length for where, length in lengths.items() if length > MAX_LINES} == {}


def test_median_function_has_at_most_eight_lines() -> None:
    functions = [node for path in _sources(*FOLDERS) for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef)]
    assert statistics.median(_lines_of_code(function) for function in functions) <= MAX_MEDIAN_LINES


def _lines_of_code(function: ast.FunctionDef) -> int:
    """Returns the number of lines of the body, without the docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0
