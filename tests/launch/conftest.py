"""Runs scripts like `python -m launch.NAME`, but in the process of the test, which saves four seconds of imports each."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from absl import app, flags, logging

from tests.components.conftest import digits_dir as digits_dir


class Finished(NamedTuple):
    """The exit code and the output of a script."""

    code: int
    out: str
    err: str


Script = Callable[..., Finished]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Script]:
    """Returns a function that runs `launch.NAME` with command-line arguments."""

    def run(name: str, *arguments: str) -> Finished:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with _own_flags():
            try:
                runpy.run_module(f"launch.{name}", run_name="__main__", alter_sys=True)
            except SystemExit as end:
                # Like the interpreter: a message is written to stderr, and the exit code is 1.
                message = f"{end.code}\n" if isinstance(end.code, str) else ""
                code = 1 if isinstance(end.code, str) else int(end.code or 0)
        out, err = capsys.readouterr()
        return Finished(code, out, err + message)

    yield run


class _own_flags:  # noqa: N801 - used in a with statement
    """Removes the imported scripts and their flags afterwards, so that the next script can declare flags of the same names."""

    def __enter__(self) -> None:
        app.define_help_flags()  # the flags of absl, declared once in a process
        self._known = set(flags.FLAGS)
        self._verbosity = logging.get_verbosity()

    def __exit__(self, *error: object) -> None:
        for name in set(flags.FLAGS) - self._known:
            delattr(flags.FLAGS, name)
        for name in [name for name in sys.modules if name.split(".")[0] == "launch"]:
            del sys.modules[name]
        flags.FLAGS.unparse_flags()
        logging.set_verbosity(self._verbosity)
