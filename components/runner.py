"""Runs steps one after another; a step's files appear whole or not at all, and a finished step is reused.

What a step keeps in its `tmp_dir` survives an interruption, so that a long one can go on in the middle.
"""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from tqdm import tqdm

from components.artifacts import CorruptArtifactError
from components.contract import Component
from intriguing.accelerators import writes_files

_WAIT_SECONDS = 600.0


def run(components: Sequence[Component]) -> None:
    """Runs the steps in order.

    Under a strategy of several workers all of them compute, where a step has anything to share; the chief alone publishes, and
    the others wait until its files are there, so `workdir` must be a folder that all of them see.

    Args:
        components: In an order in which every input is made before it is used.

    Raises:
        OSError: If the folder cannot be written to; the message says what to do.
        CorruptArtifactError: If a finished step was altered.
    """
    for index, component in enumerate(components, start=1):
        title = f"[{index:>{len(str(len(components)))}}/{len(components)}] {component.id}"
        if component.is_finished():
            _say(f"{title}  reused")
            continue
        began = time.monotonic()
        _say(f"{title}  ...")
        _lead(component) if writes_files() else _follow(component)
        _say(f"{title}  done in {time.monotonic() - began:.1f} s")


def _say(text: str) -> None:
    if writes_files():
        print(text, file=sys.stderr, flush=True)


class _Bar:
    """A progress bar that opens at the first report and vanishes at the end."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    def update(self, done: int, total: int, remark: str = "") -> None:
        if self._bar is None or self._bar.total != total:
            self.close()
            # In a file a bar is a line each time it moves: rarely, there.
            seconds = 0.2 if sys.stderr.isatty() else 10.0
            # Without `miniters` a bar that moved by much at once waits until it moves by as much again.
            self._bar = tqdm(total=total, leave=False, mininterval=seconds, miniters=1, dynamic_ncols=True, postfix=remark)
        self._bar.set_postfix_str(remark, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _lead(component: Component) -> None:
    """Does the work and publishes it: on the only worker, or on the chief."""
    bar = _Bar()
    partial = component.workdir / f".{component.id}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        component.execute(partial, bar.update)
        _publish(partial, component.output.uri)
        shutil.rmtree(component.tmp_dir, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOTDIR):
            raise OSError(
                error.errno,
                f"cannot write to {component.workdir}: {error.strerror}. Make room there, or pass another --workdir",
            ) from error
        raise
    finally:
        bar.close()
        shutil.rmtree(partial, ignore_errors=True)


def _follow(component: Component) -> None:
    """Takes part in the computation on a worker that is not the chief, throws its files away, and waits for the chief's."""
    if component.ON_EVERY_WORKER:
        with tempfile.TemporaryDirectory() as scratch:
            component.execute(Path(scratch), lambda done, total, remark: None)
    _wait_for(component)


def _publish(partial: Path, final: Path) -> None:
    stale = final.with_name(f".{final.name}.stale")
    shutil.rmtree(stale, ignore_errors=True)
    if final.exists():
        final.rename(stale)
    partial.rename(final)
    shutil.rmtree(stale, ignore_errors=True)


def _wait_for(component: Component) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not _is_published(component):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the chief did not publish {component.output.uri} within {_WAIT_SECONDS:.0f} s. Is --workdir a folder that "
                "all workers see?"
            )
        logging.log_every_n_seconds(logging.INFO, "waiting for %s", 30, component.output.uri)
        time.sleep(0.2)


def _is_published(component: Component) -> bool:
    try:
        return component.is_finished()
    except (CorruptArtifactError, FileNotFoundError):
        return False  # seen while the chief was replacing an older result
