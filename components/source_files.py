"""The source files that a step runs: the module of its component, and all first-party modules that it imports, transitively."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

_TOP_LEVEL = ("intriguing", "components")
_TEMPLATES = "*.html"  # packages read their templates at run time, without an import


def source_files(module: str, root: Path) -> set[Path]:
    """Returns the files whose change can change the result of a step.

    Imports are read from the source code, also those inside functions. With a module, the `__init__.py` of its package counts,
    since Python runs it. The `__init__.py` of the top level imports the whole library: it counts only if the package itself or
    one of its own names is imported, as in `from intriguing import minimize_distortion`.

    Args:
        module: Name of the module that defines the step, such as "components.trainer.component".
        root: The folder that holds the top-level packages.

    Returns:
        Modules and templates, as absolute paths if `root` is one.
    """
    waiting = list(_files_of(module, root))
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [file for name in _imported_names(path.read_bytes()) for file in _files_of(name, root)]
    return found | {template for folder in {path.parent for path in found} for template in folder.glob(_TEMPLATES)}


@functools.cache
def _imported_names(source: bytes) -> tuple[str, ...]:
    """Returns the imported names, such as "package.module" or "package.module.function"."""
    return tuple(_names_in(ast.parse(source)))


def _names_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(name: str, root: Path) -> Iterator[Path]:
    """Yields the files that Python runs to import a first-party name."""
    first, *parts = name.split(".")
    if first not in _TOP_LEVEL:
        return
    folders = [root.joinpath(first, *parts[: depth + 1]) for depth in range(len(parts))]
    files = [path for folder in folders for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()]
    yield from files or [root / first / "__init__.py"]
